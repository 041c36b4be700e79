"""Global switches, such as warnings, that several threads may turn off at once."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from weakref import WeakSet

Undo = Callable[[], object]


class Silence:
    """A context manager that switches something off while at least one thread is inside, in whatever order they leave.

    In a forked child, which has none of its parent's other threads, no thread is inside.

    Args:
        switch_off: switches it off; returns a function that undoes it.
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
            if self._inside:  # 0 in a child that was forked inside
                self._inside -= 1
                if not self._inside:
                    self._undo()

    def in_child(self) -> None:
        """Switch on again in a forked child."""
        # Another thread of the parent may have held the lock.
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


# Used instead of warnings.catch_warnings, which two threads can leave in such an order that warnings stay ignored.
quiet_warnings = Silence(_ignore_warnings)
