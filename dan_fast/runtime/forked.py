"""Children of ``os.fork``: PyTorch's threads stay behind in the parent, and a child that waits for them waits for ever.

``multiprocessing`` forks by default on Linux (before Python 3.14), and so do DataLoader workers and prefork servers.
The child's first parallel computation hands out work to threads that do not exist in it. On one thread nothing is
handed out, so a child computes on one, and says so the first time. Whoever wants more threads in a child starts it
with ``spawn`` or ``forkserver``.
"""

from __future__ import annotations

import os
import warnings

import torch

_must_say = False


def _in_child() -> None:
    global _must_say
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        _must_say = True


def say_if_forked() -> None:
    """Warn, once, that this process computes on one thread because it was forked.

    Says nothing if it has been given more threads since: that is its owner's decision.
    """
    global _must_say
    if _must_say:
        _must_say = False
        if torch.get_num_threads() == 1:
            warnings.warn("this process was forked, which PyTorch's threads do not survive: computing on one thread; "
                          "for more, start it with multiprocessing's spawn or forkserver", RuntimeWarning, stacklevel=3)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
