"""Blur kernels made wider or narrower."""

from __future__ import annotations

import torch
from torch import Tensor

from .cubic import cubic


def scaled(kernels: Tensor, factor: float) -> Tensor:
    """Make ``kernels`` wider by ``factor``, or narrower if it is below 1, about their middle.

    A Gaussian of standard deviation s becomes one of ``factor * s``. The kernel is taken as a function of the place,
    interpolated by a cubic, which shrinking stretches, so that no tap is lost between two others. Taps that would lie
    outside are cut off; the sum stays.

    Args:
        kernels: (N, k, k) floating point, their middle at ``k // 2``, sums positive.
        factor: positive.

    Returns:
        (N, k, k), dtype and device of ``kernels``; no tap is negative where none was.
    """
    if factor == 1:
        return kernels
    size = kernels.shape[-1]
    places = torch.arange(size, dtype=torch.float64) - size // 2
    stretch = max(1 / factor, 1.0)
    taps = (cubic((places[:, None] / factor - places) / stretch) / (factor * stretch)).to(kernels.device)
    exact = kernels.double()
    found = taps @ exact @ taps.T
    found = torch.maximum(found, exact.amin((1, 2), keepdim=True).clamp(max=0))
    return (found * (exact.sum((1, 2), keepdim=True) / found.sum((1, 2), keepdim=True))).to(kernels.dtype)
