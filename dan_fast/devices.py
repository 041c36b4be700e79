"""Where to compute."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import DanFastError


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")


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


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Another CUDA stream, between what the current one has been given and what it will be given: where a function
    warms up before a CUDA graph captures it."""
    current, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        yield
    current.wait_stream(side)


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
