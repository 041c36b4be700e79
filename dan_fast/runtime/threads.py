"""How the threads of PyTorch and of the C++ operators wait for each other.

By default OpenMP's threads wait actively, for milliseconds: the next piece of work finds them awake. Where another
program wants a core too, the thread that waits takes the time of the one that it waits for, and a call takes 4 to 15
times as long. Waiting passively costs nothing that can be seen in upscaling and about a tenth in training, whose pieces
are small (docs/inference.md has the figures).

OpenMP reads its settings once, when torch is imported, so they must be there before. The commands see to it; a Python
program can call ``wait_passively()`` before it imports torch, or set the variables.
"""

from __future__ import annotations

import os
import sys

# Passively, but for the time that it takes to wake a thread: 10 to 50 us.
SETTINGS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
# What a user may have set instead; the last one is that of Intel's OpenMP.
VARIABLES = (*SETTINGS, "KMP_BLOCKTIME")


def wait_passively() -> bool:
    """Set ``SETTINGS`` in this process's environment, which its children inherit.

    Returns:
        False, and nothing is set, if torch has been imported or the user has set one of ``VARIABLES``.
    """
    if "torch" in sys.modules or any(name in os.environ for name in VARIABLES):
        return False
    os.environ.update(SETTINGS)
    return True


def waiting() -> str:
    """How the threads wait, in words, as far as the environment tells."""
    found = ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ)
    if os.environ.get("OMP_WAIT_POLICY", "").strip().upper() == "PASSIVE":
        return f"passively ({found})"
    return (f"{f'as {found} says' if found else 'actively'}: other programs slow this one down up to tenfold; "
            "OMP_WAIT_POLICY=PASSIVE in the environment, before torch is imported, helps")
