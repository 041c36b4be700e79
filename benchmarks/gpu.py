"""What the benchmarks of GPU operators share: the device, and timing without the CPU's part."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor


def require_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")


def captured(function: Callable[[], object], calls: int) -> Callable[[], None]:
    """Computes ``function`` ``calls`` times on the GPU when called, as one CUDA graph.

    As in use: the network runs from graphs, and a launch from Python takes longer than a small kernel does.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(side):
        for _ in range(3):  # whatever compiles, compiles here
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        for _ in range(calls):
            function()
    return graph.replay


def copy_of(size: int) -> Callable[[], Tensor]:
    """Moves ``size`` bytes, half of them read and half written, as fast as this GPU does."""
    source = torch.empty(max(1, size // 2), dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return lambda: target.copy_(source)
