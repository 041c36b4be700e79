"""Children of ``os.fork``, in which PyTorch's threads do not exist: whoever waits for them waits for ever.

``multiprocessing`` forks by default on Linux (before Python 3.14), and so do DataLoader workers and prefork servers.
The child's first parallel computation would give work to threads that stayed behind in the parent. Work on one thread
is not distributed, so a child computes on one thread, and warns of it once. For more threads a child must be started
with ``spawn`` or ``forkserver``.
"""

from __future__ import annotations

import os
import warnings

import torch

_warning_due = False


def _in_child() -> None:
    global _warning_due
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        _warning_due = True


def warn_if_forked() -> None:
    """Warn, once, that this process computes on one thread because it was forked.

    Stays silent if the number of threads was raised since: that was its owner's decision.
    """
    global _warning_due
    if _warning_due:
        _warning_due = False
        if torch.get_num_threads() == 1:
            warnings.warn("this process was forked, which PyTorch's threads do not survive: computing on one thread; "
                          "for more, start it with multiprocessing's spawn or forkserver", RuntimeWarning, stacklevel=3)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
