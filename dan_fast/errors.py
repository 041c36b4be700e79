"""Errors that the user can fix: commands print them on one line and exit with 2."""

import difflib
import unicodedata
from collections.abc import Iterable

# Control and formatting characters, halves of characters, line and paragraph separators.
_STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_LEAST_LIKENESS = 0.6  # of a name that is suggested; 1 is the same


class DanFastError(ValueError):
    """The message names the value, what was expected, and what to do."""


class CheckpointError(DanFastError):
    """A file does not hold the weights of a DAN network."""


class ImageError(DanFastError):
    """A file is not an image that can be read, or must not be written."""


class ToolError(DanFastError):
    """Another program that upscales did not make an image of the right size."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a message that refuses ``name``: ``"; did you mean X?"``, or nothing if none of ``names`` is near."""
    def nearness(other: str) -> tuple[float, float]:
        ours, theirs = name.lower(), other.lower()
        # The second decides between names that are equally near: 2x is rather x2 than x4.
        return _likeness(ours, theirs), _likeness("".join(sorted(ours)), "".join(sorted(theirs)))

    nearest = max(names, key=nearness, default=None)
    return f"; did you mean {nearest}?" if nearest and nearness(nearest)[0] >= _LEAST_LIKENESS else ""


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def printable(text: str) -> str:
    """Escape what would steer a terminal, as characters in a file's name may: ``text`` becomes one line."""
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in _STEERING else c for c in text)
