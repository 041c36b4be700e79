"""A blur kernel that the user knows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import DanFastError
from .padding import cropped, padded
from .shift import Shift, centred

# The largest share of a kernel that may be cut off where it is larger than the network's. The widest Gaussian of
# training (sigma 4 in 21x21) has 0.017 outside.
MOST_OUTSIDE = 0.02


class KnownKernel(NamedTuple):
    """A kernel as the user gave it and as a network takes it.

    Attributes:
        given: (n, n) float32, sum 1, with zeros around it if it was smaller than the network's.
        centred: (k, k) float32, sum 1, its centre of mass in its middle.
        shift: from the middle of ``given`` to its centre of mass.
        outside: the share of the centred kernel that lay outside k x k and was cut off, 0 to 1.
    """

    given: np.ndarray
    centred: np.ndarray
    shift: Shift
    outside: float


def known_kernel(kernel: np.ndarray | Tensor, size: int) -> KnownKernel:
    """Prepare a kernel that the user gave for a network of kernel size ``size``.

    Networks are trained on centred kernels. Another kernel is moved so that its centre of mass lies in its middle, and
    the upscaled image must then be moved by ``shift``. A kernel that is centred within ``shift.TOLERANCE`` stays as it
    is.

    Args:
        kernel: (n, n), n odd or even, with its middle at ``n // 2``; its sum within 1 % of 1.

    Raises:
        DanFastError: it is not such a kernel, or larger than the network's with too much of it outside.
    """
    array = _numbers(kernel)
    if array.ndim != 2 or array.shape[0] != array.shape[1] or not array.size:
        raise DanFastError(f"the kernel has shape {array.shape}, expected a square (n, n): "
                           "put zeros around it to make it one, its middle at n // 2")
    if not np.isfinite(array).all():
        raise DanFastError("the kernel holds numbers that are not finite")
    total = array.sum()
    if abs(total - 1) > 0.01:
        raise DanFastError(f"the kernel's sum is {total:.4g}, expected 1: divide it by its sum")
    array = array / total
    whole, shift = centred(array)
    inner = cropped(whole, size) if len(whole) > size else padded(whole, size)
    outside = max(0.0, float(1 - abs(inner).sum() / abs(whole).sum()))
    if len(array) > size and outside > MOST_OUTSIDE:
        raise DanFastError(f"the kernel has {len(array)}x{len(array)} pixels, this network takes at most "
                           f"{size}x{size}, and {outside:.0%} of the kernel lie outside those around its centre of "
                           "mass: give a narrower one, or take weights with a larger kernel")
    if len(whole) > size:
        inner = inner / inner.sum()
    return KnownKernel(padded(array, max(size, len(array))).astype(np.float32), inner.astype(np.float32),
                       shift, outside)


def _numbers(kernel: np.ndarray | Tensor) -> np.ndarray:
    """``kernel`` in float64."""
    if isinstance(kernel, Tensor) and not (kernel.is_complex() or kernel.dtype == torch.bool):
        return kernel.detach().cpu().to(torch.float64).numpy()
    array = np.asarray(kernel)
    if array.dtype.kind not in "fiu":
        raise DanFastError(f"the kernel holds {array.dtype}, expected numbers")
    return array.astype(np.float64)
