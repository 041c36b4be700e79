"""The device to compute on, and the memory that was in use."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch

from ..errors import DanFastError


def pick_device(name: str) -> torch.device:
    """Return the device called ``name``, "auto" for a GPU if there is one; ``DanFastError`` if it cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DanFastError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device


def peak_memory(device: torch.device) -> int:
    """The most bytes that were in use: by torch on a GPU, else by this process; 0 where the system does not say."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _peak_of_process()


def _peak_of_process() -> int:
    # Linux hands ru_maxrss down from parent to child.
    status = Path("/proc/self/status")
    if status.is_file() and (found := re.search(r"VmHWM:\s*(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
