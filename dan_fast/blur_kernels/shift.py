"""The shift of an image by a blur kernel that is not centred; centred kernels; images moved back.

Kernels are correlated with the image, not flipped: where a kernel's mass lies 4 pixels right of its middle, each pixel
shows what was 4 pixels to its right, so that the image comes out 4 pixels too far left. Moving the image by the
kernel's shift puts it back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import DanFastError
from .cubic import cubic
from .padding import padded

# A shift this close to a whole number of pixels, including 0, is rounded to it. All but one in ten thousand of the
# disturbed kernels in training have their centre of mass closer than this to the middle; ignoring it costs 0.02 dB.
TOLERANCE = 0.1
_REACH = 2  # pixels to either side that the interpolation reads
_STRIP = 256  # rows that are converted to floating point at once


class Shift(NamedTuple):
    """Pixels from a kernel's middle (``size // 2``) to its centre of mass; the blurred image is moved back by them."""

    down: float
    right: float

    def __str__(self) -> str:
        parts = [f"{abs(by):.1f} pixels {name[by > 0]}"
                 for by, name in ((self.down, ("up", "down")), (self.right, ("left", "right"))) if by]
        return " and ".join(parts) or "no pixel"


NO_SHIFT = Shift(0.0, 0.0)


class Centred(NamedTuple):
    """A centred kernel and the shift that it had.

    Attributes:
        kernel: (m, m) float64, m odd, with the centre of mass in its middle and the original sum.
        shift: the shift of the original kernel.
    """

    kernel: np.ndarray
    shift: Shift


def kernel_shift(kernel: np.ndarray) -> Shift:
    """Measure the shift of ``kernel`` (k, k), k odd or even, with any positive sum; exactly 0 below ``TOLERANCE``.

    Raises:
        DanFastError: the centre of mass lies outside the kernel, as negative taps can make it.
    """
    weights = np.asarray(kernel, dtype=np.float64)
    mass = [weights.sum(1), weights.sum(0)]
    down, right = (float(line @ (np.arange(len(line)) - len(line) // 2) / line.sum()) for line in mass)
    if not max(abs(down), abs(right)) <= len(weights) // 2 + 0.5:
        raise DanFastError(f"the kernel's centre of mass lies outside its {len(weights)}x{len(weights)} pixels: "
                           "expected no negative numbers, or small ones")
    return Shift(_snapped(down), _snapped(right))


def centred(kernel: np.ndarray) -> Centred:
    """Move the centre of mass of ``kernel`` (k, k) to its middle; unchanged if it is there already and k is odd.

    Fractions of a pixel are interpolated (bicubic). No tap becomes less than 0, or than the smallest of ``kernel``.

    Raises:
        DanFastError: as in ``kernel_shift``.
    """
    kernel = np.asarray(kernel, dtype=np.float64)
    shift = kernel_shift(kernel)
    if shift == NO_SHIFT and len(kernel) % 2:
        return Centred(kernel, shift)
    margin = math.ceil(max(map(abs, shift))) + _REACH
    wide = torch.from_numpy(padded(kernel, (len(kernel) | 1) + 2 * margin))
    for dim, by in enumerate(shift):
        wide = _moved_along(wide, dim, -by)
    found = wide.numpy().clip(min(0.0, kernel.min()))
    return Centred(found * (kernel.sum() / found.sum()), shift)


def moved(images: Tensor, shift: Shift) -> Tensor:
    """Move ``images`` by ``shift``, repeating the pixels of the edge where nothing else moves in.

    Shifts by whole pixels copy; others interpolate (bicubic), round once and clamp to the range of the type.

    Args:
        images: (N, C, H, W), uint8, uint16, or floating point in [0, 1].
    """
    if shift == NO_SHIFT:
        return images
    height = images.shape[2]
    result = torch.empty_like(images)
    exact = torch.float64 if images.dtype == torch.float64 else torch.float32
    largest = 1 if images.is_floating_point() else torch.iinfo(images.dtype).max
    reach = math.ceil(abs(shift.down)) + _REACH
    for top in range(0, height, _STRIP):
        bottom = min(top + _STRIP, height)
        first = min(max(top - reach, 0), height - 1)
        strip = images[:, :, first:bottom + reach].to(exact)
        strip = _moved_along(strip, 2, shift.down)[:, :, top - first:bottom - first]
        strip = _moved_along(strip, 3, shift.right).clamp(0, largest)
        result[:, :, top:bottom] = strip if images.is_floating_point() else strip.round()
    return result


def _moved_along(values: Tensor, dim: int, by: float) -> Tensor:
    """``values``, floating point, moved along ``dim`` by ``by`` places; the outermost values are repeated."""
    whole = math.floor(by)
    fraction = by - whole
    places = torch.arange(values.shape[dim], device=values.device) - whole
    # Each result is the value at its place less the fraction, interpolated from those at these offsets.
    offsets = torch.arange(-_REACH, _REACH) if fraction else torch.zeros(1, dtype=torch.int64)
    total = torch.zeros_like(values)
    for offset, tap in zip(offsets, cubic(offsets.double() + fraction).tolist(), strict=True):
        total += tap * values.index_select(dim, (places + int(offset)).clamp(0, values.shape[dim] - 1))
    return total


def _snapped(shift: float) -> float:
    """``shift``, rounded to a whole number if it is close to one."""
    return float(round(shift)) if abs(shift - round(shift)) < TOLERANCE else shift
