"""Silence that several threads may ask for at once."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from weakref import WeakSet

Undo = Callable[[], object]


class Silence:
    """A context manager that switches something off until the last of those inside has left, in whatever order.

    A forked child has none of its parent's other threads, so that nobody is inside any more.

    Args:
        switch_off: switches it off; returns what undoes that.
    """

    def __init__(self, switch_off: Callable[[], Undo]) -> None:
        self._switch_off = switch_off
        self._lock, self._inside = threading.Lock(), 0
        self._undo: Undo = lambda: None
        _all.add(self)

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._undo = self._switch_off()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._inside:  # a child that was forked inside is outside already
                self._inside -= 1
                if not self._inside:
                    self._undo()

    def in_child(self) -> None:
        # The lock may have been another thread's.
        self._lock = threading.Lock()
        if self._inside:
            self._inside = 0
            self._undo()


_all: WeakSet[Silence] = WeakSet()


def _in_child() -> None:
    for silence in list(_all):
        silence.in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def _ignore_warnings() -> Undo:
    caught = warnings.catch_warnings()
    caught.__enter__()
    warnings.simplefilter("ignore")
    return lambda: caught.__exit__(None, None, None)


# Not warnings.catch_warnings for each: two threads that leave it in turn can leave warnings ignored for good.
quiet_warnings = Silence(_ignore_warnings)
