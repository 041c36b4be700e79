"""Silence for the libraries that decode images: what they print of a broken file is no message of ours.

Their errors are still errors: the decoders raise them. Only printing ends, of libtiff inside Pillow and of OpenCV
by their own switches, of Python's warnings by a filter; what others write to stderr meanwhile is not touched.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
from PIL import Image

# Without any handler, Python prints the errors that Pillow logs.
logging.getLogger("PIL").addHandler(logging.NullHandler())
_lock = threading.Lock()
_inside = 0
_restore: list[Callable[[], object]] = []


@contextmanager
def quiet_codecs() -> Iterator[None]:
    """Let no decoder print, in any thread, until the last of those who asked for it has left."""
    global _inside
    with _lock:
        if _inside == 0:
            _restore[:] = _silence_libtiff() + _silence_opencv() + _silence_warnings()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for restore in _restore:
                    restore()


def _silence_libtiff() -> list[Callable[[], object]]:
    try:
        pillow = ctypes.CDLL(Image.core.__file__)
        setters = [pillow.TIFFSetErrorHandler, pillow.TIFFSetWarningHandler]
    # Where Pillow hides its libtiff, as on Windows, libtiff keeps its say.
    except (AttributeError, OSError):
        return []
    restore = []
    for setter in setters:
        setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
        restore.append(_call(setter, setter(None)))
    return restore


def _silence_opencv() -> list[Callable[[], object]]:
    switch = cv2.utils.logging
    before = switch.getLogLevel()
    switch.setLogLevel(switch.LOG_LEVEL_SILENT)
    return [_call(switch.setLogLevel, before)]


def _silence_warnings() -> list[Callable[[], object]]:
    # They are kept for all threads at once; two threads that caught them in turn could leave them ignored for good.
    caught = warnings.catch_warnings()
    caught.__enter__()
    warnings.simplefilter("ignore")
    return [lambda: caught.__exit__(None, None, None)]


def _call(function: Callable, argument: object) -> Callable[[], object]:
    return lambda: function(argument)
