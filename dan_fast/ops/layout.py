"""What every backend of an operator must agree on: how its result lies in memory, and what it is computed in."""

from __future__ import annotations

import torch
from torch import Tensor


def laid_out_like(result: Tensor, x: Tensor) -> Tensor:
    """``result`` with the strides of ``torch.empty_like(x)``, copied only if it has others; shapes are the same."""
    if result.stride() == x.stride() or result.stride() == torch.empty_like(x, device="meta").stride():
        return result
    return torch.empty_like(x, dtype=result.dtype).copy_(result)


def wide_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype to compute in: float32, or float64 where an argument has it."""
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
