"""Errors that the user can fix: commands print them on one line and exit with 2."""

import unicodedata

# Control and formatting characters, halves of characters, line and paragraph separators.
_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


class DanFastError(ValueError):
    """The message names the value, what was expected, and what to do."""


class CheckpointError(DanFastError):
    """A file does not hold the weights of a DAN network."""


class ImageError(DanFastError):
    """A file is not an image that can be read, or must not be written."""


def printable(text: str) -> str:
    """Escape what would steer a terminal, as characters in a file's name may: ``text`` becomes one line."""
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in _STEERING else c for c in text)
