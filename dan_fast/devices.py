"""Where to compute."""

from __future__ import annotations

import argparse

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
