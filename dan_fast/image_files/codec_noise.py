"""Silence for the libraries that decode images, which print their own messages about broken files.

Decoders still raise their errors. Only libtiff, inside Pillow, and OpenCV stop printing, by their own switches; other
output to stderr is not affected.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
from PIL import Image

from ..runtime.silence import Silence, Undo, quiet_warnings

# Python prints the errors that Pillow logs unless there is a handler.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextmanager
def quiet_codecs() -> Iterator[None]:
    """Keep decoders in all threads from printing and warning."""
    with quiet_warnings, _quiet_libtiff, _quiet_opencv:
        yield


def _silence_libtiff() -> Undo:
    try:
        pillow = ctypes.CDLL(Image.core.__file__)
        setters = [pillow.TIFFSetErrorHandler, pillow.TIFFSetWarningHandler]
    # Where Pillow hides its libtiff, as on Windows, libtiff goes on printing.
    except (AttributeError, OSError):
        return lambda: None
    for setter in setters:
        setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
    handlers = [setter(None) for setter in setters]
    return lambda: [setter(handler) for setter, handler in zip(setters, handlers, strict=True)]


def _silence_opencv() -> Undo:
    switch = cv2.utils.logging
    before = switch.getLogLevel()
    switch.setLogLevel(switch.LOG_LEVEL_SILENT)
    return lambda: switch.setLogLevel(before)


_quiet_libtiff, _quiet_opencv = Silence(_silence_libtiff), Silence(_silence_opencv)
