"""The way in which threads of PyTorch and of the C++ operators wait for each other: passively in the commands.

By default OpenMP's threads wait actively, for milliseconds, so that the next piece of work finds them awake. If another
program needs a core too, a waiting thread takes time from the one that it waits for, and a call takes 4 to 15 times as
long. Waiting passively costs nothing measurable in upscaling and about a tenth in training, whose pieces of work are
small (docs/inference.md has the figures).

OpenMP reads its settings once, when torch is imported, so they must be set before. The commands do so; a Python program
can call ``wait_passively()`` before it imports torch, or set the variables.
"""

from __future__ import annotations

import os
import sys

# Passively, after an active wait about as long as waking a thread takes: 10 to 50 us.
SETTINGS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
# A user may have set one of these; the last is read by Intel's OpenMP.
VARIABLES = (*SETTINGS, "KMP_BLOCKTIME")


def wait_passively() -> bool:
    """Set ``SETTINGS`` in the environment of this process, which its children inherit.

    Returns:
        False, and nothing is set, if torch has been imported or the user has set one of ``VARIABLES``.
    """
    if "torch" in sys.modules or any(name in os.environ for name in VARIABLES):
        return False
    os.environ.update(SETTINGS)
    return True


def how_threads_wait() -> str:
    """Describe how the threads wait, as far as the environment tells."""
    found = ", ".join(f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ)
    if os.environ.get("OMP_WAIT_POLICY", "").strip().upper() == "PASSIVE":
        return f"passively ({found})"
    return (f"{f'as {found} says' if found else 'actively'}: other programs slow this one down up to tenfold; "
            "OMP_WAIT_POLICY=PASSIVE in the environment, before torch is imported, helps")
