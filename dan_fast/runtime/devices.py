"""Where to compute."""

from __future__ import annotations

import sys

import torch

from ..errors import DanFastError


def pick_device(name: str) -> torch.device:
    """The device called ``name``; ``DanFastError`` if there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DanFastError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return device


def peak_memory(device: torch.device) -> int:
    """Bytes that were in use at most: torch's on a GPU, else this process's; 0 where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
