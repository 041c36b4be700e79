"""Rules that all backends follow: a result's layout in memory, the dtype of the computation, the activation."""

from __future__ import annotations

import torch
from torch import Tensor

SLOPE = 0.2  # of the leaky ReLU in every block, for negative values


def laid_out_like(result: Tensor, x: Tensor) -> Tensor:
    """``result`` with the strides of ``torch.empty_like(x)``, copied only if it has others; shapes are the same."""
    if result.stride() == x.stride() or result.stride() == torch.empty_like(x, device="meta").stride():
        return result
    return torch.empty_like(x, dtype=result.dtype).copy_(result)


def wide_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype to compute in: float32, or float64 where an argument has it."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32


def channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W) in channels_last memory, copied only if it lies otherwise."""
    return x.contiguous(memory_format=torch.channels_last)


def to_nhwc(x: Tensor) -> Tensor:
    """(B, C, H, W) as the extension takes it: (B, H, W, C), contiguous, a view if ``x`` is channels_last."""
    return channels_last(x).permute(0, 2, 3, 1)


def to_nchw(x: Tensor) -> Tensor:
    """(B, H, W, C) as (B, C, H, W), a channels_last view; a tensor of another number of dimensions stays as it is."""
    return x.permute(0, 3, 1, 2) if x.dim() == 4 else x


def empty_channels_last(x: Tensor, channels: int | None = None) -> Tensor:
    """A channels_last tensor (B, C, H, W) of the size and dtype of ``x``, with ``channels`` channels if given."""
    batch, own, height, width = x.shape
    return x.new_empty(batch, height, width, own if channels is None else channels).permute(0, 3, 1, 2)
