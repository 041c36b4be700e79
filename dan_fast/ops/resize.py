"""Bicubic resizing as MATLAB's ``imresize`` does it: antialiased, symmetric borders, in floating point."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

from ..blur_kernels.cubic import cubic

_BAND = 1 << 22  # values that ``resize_pixels`` computes at once


def bicubic_resize(image: Tensor, scale: Fraction | float | int) -> Tensor:
    """Resize by any rational factor, up or down.

    Args:
        image: (..., H, W) floating point, any value range; it is not clamped.
        scale: output size over input size, positive; e.g. ``4``, ``0.25`` or ``Fraction(1, 3)``.
            Floats are taken as the nearest fraction with a denominator of at most 1000.

    Returns:
        (..., ceil(H * scale), ceil(W * scale)), dtype and device of ``image``.

    Raises:
        ValueError: ``image`` is not floating point, or ``scale`` is not positive.
    """
    if not image.is_floating_point():
        raise ValueError(f"image is {image.dtype}, expected floating point: divide 8-bit images by 255")
    factor = Fraction(scale).limit_denominator(1000)
    if factor <= 0:
        raise ValueError(f"scale={scale}: expected a positive factor")
    for dim in (-2, -1):
        if factor != 1:
            image = _combined(image, dim, *_taps_on(image.shape[dim], factor, image.device, image.dtype))
    return image


def resize_pixels(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image to ``height`` x ``width``, rounded; each axis by its own factor, up or down.

    The image is computed in bands of rows, so that little memory is taken besides the result.

    Args:
        pixels: HxW or HxWxC, uint8 or uint16.

    Returns:
        (height, width) or (height, width, C) of the same type.

    Raises:
        ValueError: ``pixels`` is of another type, or a size is not positive.
    """
    if pixels.dtype not in (np.uint8, np.uint16) or min(height, width) < 1:
        raise ValueError(f"pixels are {pixels.dtype}, to become {width}x{height}: expected uint8 or uint16 and a "
                         "positive size")
    planes = pixels.reshape(*pixels.shape[:2], -1)
    result = np.empty((height, width, planes.shape[2]), pixels.dtype)
    down, right = ((None if new == old else resize_taps(old, Fraction(new, old)))
                   for old, new in zip(planes.shape[:2], (height, width), strict=True))
    rows = max(1, _BAND // (max(width, planes.shape[1]) * planes.shape[2]))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        if down is None:
            band = torch.from_numpy(planes[top:bottom].astype(np.float32))
        else:
            weights, indices = (part[top:bottom] for part in down)
            first, last = int(indices.min()), int(indices.max()) + 1
            band = torch.from_numpy(planes[first:last].astype(np.float32))
            band = _combined(band, 0, weights.float(), indices - first)
        if right is not None:
            band = _combined(band, 1, right[0].float(), right[1])
        result[top:bottom] = band.round_().clamp_(0, np.iinfo(pixels.dtype).max).numpy()
    return result.reshape(height, width, *pixels.shape[2:])


def _combined(image: Tensor, dim: int, weights: Tensor, indices: Tensor) -> Tensor:
    """``image`` resized along ``dim``, as ``resize_taps`` says."""
    shape = [1] * image.dim()
    shape[dim] = -1
    # One tap at a time: a few passes over the output instead of an input-by-output matrix.
    out = None
    for tap in range(weights.shape[1]):
        term = image.index_select(dim, indices[:, tap]) * weights[:, tap].view(shape)
        out = term if out is None else out + term
    assert out is not None
    return out


@cache
def _taps_on(length: int, factor: Fraction, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``resize_taps`` on ``device``, the weights in ``dtype``.

    They are cached: a CUDA graph can be captured only where nothing comes from the host, and what it reads must stay.
    """
    with torch.inference_mode(False):  # else autograd could not use them afterwards
        weights, indices = resize_taps(length, factor)
        return weights.to(device, dtype), indices.to(device)


@lru_cache(maxsize=256)
def resize_taps(length: int, factor: Fraction) -> tuple[Tensor, Tensor]:
    """The linear map of one axis: ``out[i] = sum_t weights[i, t] * in[indices[i, t]]``.

    Returns:
        weights (out, taps) float64, rows summing to 1; indices (out, taps) int64 in [0, length).
    """
    out_length = math.ceil(length * factor)
    # Shrinking stretches the cubic, so that it averages over what it drops.
    stretch = float(max(1 / factor, Fraction(1)))
    width = 4 * stretch
    centre = (torch.arange(out_length, dtype=torch.float64) + 0.5) / float(factor) - 0.5
    first = torch.floor(centre - width / 2).long() + 1
    positions = first[:, None] + torch.arange(math.ceil(width) + 1)
    weights = cubic((centre[:, None] - positions) / stretch)
    weights = weights / weights.sum(1, keepdim=True)
    used = (weights != 0).any(0)
    # Symmetric border: … 1 0 | 0 1 2 … n-1 | n-1 n-2 …, a wave of period 2n.
    wrapped = positions % (2 * length)
    indices = torch.where(wrapped < length, wrapped, 2 * length - 1 - wrapped)
    return weights[:, used], indices[:, used]
