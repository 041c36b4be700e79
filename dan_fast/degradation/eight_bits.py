"""8-bit images: as arrays, as tensors, and what storing an image in 8 bit does to it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def round_8bit(image: Tensor) -> Tensor:
    """``image``, nominally in [0, 1], as an 8-bit file stores it: clamped, and rounded to multiples of 1/255."""
    return image.clamp(0, 1).mul(255).round().div(255)


def to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255


def from_tensor(image: Tensor) -> np.ndarray:
    """(1, 3, H, W) float -> (H, W, 3) uint8, clamped and rounded."""
    return np.ascontiguousarray(round_8bit(image)[0].permute(1, 2, 0).mul(255).round().byte().numpy())
