"""Errors that are the user's to fix: commands print them on one line and exit with 2."""


class DanFastError(ValueError):
    """The message names the value, what was expected, and what to do."""


class CheckpointError(DanFastError):
    """A file does not hold the weights of a DAN network."""


class ImageError(DanFastError):
    """A file is not an image that can be read, or must not be written."""
