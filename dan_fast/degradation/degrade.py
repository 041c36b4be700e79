"""The degradation by a known kernel: blur, downsampling, noise, 8-bit rounding."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..ops import blur_downsample
from .eight_bits import from_tensor, round_8bit, to_tensor


def degrade(hr: Tensor, kernel: Tensor, scale: int, noise: Tensor | None = None) -> Tensor:
    """Return ``round_8bit((hr * kernel) downsampled by scale + noise)``.

    Args:
        hr: (B, C, H, W) in [0, 1], H and W multiples of ``scale``.
        kernel: (B, k, k), sum 1.
        noise: (B, C, H/s, W/s), added in the units of ``hr``; None: no noise.

    Returns:
        (B, C, H/s, W/s) in [0, 1], multiples of 1/255.
    """
    lr = blur_downsample(hr, kernel, scale)
    return round_8bit(lr if noise is None else lr + noise.to(lr))


def degrade_image(hr: np.ndarray, kernel: Tensor, scale: int, noise: float = 0.0,
                  generator: torch.Generator | None = None) -> np.ndarray:
    """Degrade one 8-bit image by one kernel.

    Args:
        hr: (H, W, 3) uint8, H and W multiples of ``scale``.
        kernel: (k, k), sum 1.
        noise: standard deviation of Gaussian noise in [0, 1] units: an 8-bit level is 1/255.
        generator: draws the noise; None: torch's own generator.

    Returns:
        (H/s, W/s, 3) uint8.
    """
    height, width, channels = hr.shape
    shape = 1, channels, height // scale, width // scale
    drawn = noise * torch.randn(shape, generator=generator) if noise else None
    return from_tensor(degrade(to_tensor(hr), kernel[None], scale, drawn))
