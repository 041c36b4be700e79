"""The kernel of bicubic interpolation."""

from __future__ import annotations

import torch
from torch import Tensor


def cubic(x: Tensor) -> Tensor:
    """Evaluate Keys' cubic convolution kernel with a = -0.5 at ``x``, any shape."""
    x = x.abs()
    inner = 1.5 * x**3 - 2.5 * x**2 + 1
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, inner, torch.where(x <= 2, outer, 0.0))
