"""Silence that several threads may ask for at once."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

Undo = Callable[[], object]


class Silence:
    """A context manager that switches something off until the last of those inside has left, in whatever order.

    Args:
        switch_off: switches it off; returns what undoes that.
    """

    def __init__(self, switch_off: Callable[[], Undo]) -> None:
        self._switch_off = switch_off
        self._lock, self._inside = threading.Lock(), 0
        self._undo: Undo = lambda: None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._undo = self._switch_off()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._undo()


def _ignore_warnings() -> Undo:
    caught = warnings.catch_warnings()
    caught.__enter__()
    warnings.simplefilter("ignore")
    return lambda: caught.__exit__(None, None, None)


# Not warnings.catch_warnings for each: two threads that leave it in turn can leave warnings ignored for good.
quiet_warnings = Silence(_ignore_warnings)
