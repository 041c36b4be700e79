"""Kernels with zeros around them, and what lies in the middle of larger ones.

The centre of a kernel of k x k taps is ``k // 2``, as ``ops.blur`` counts it, for odd and even sizes alike.
"""

from __future__ import annotations

import numpy as np

from ..errors import DanFastError


def padded(kernel: np.ndarray, size: int) -> np.ndarray:
    """``kernel`` (k, k) with zeros around it, centre on centre: (size, size), of its type.

    Raises:
        DanFastError: ``kernel`` is not square, or larger than ``size``.
    """
    _check_square(kernel)
    if len(kernel) > size:
        raise DanFastError(f"a kernel of {len(kernel)}x{len(kernel)} taps cannot be padded to {size}x{size}: "
                           "expected one that is not larger")
    before = size // 2 - len(kernel) // 2
    return np.pad(kernel, (before, size - len(kernel) - before))


def cropped(kernel: np.ndarray, size: int) -> np.ndarray:
    """The middle (size, size) of ``kernel`` (k, k), centre on centre: undoes ``padded``.

    Raises:
        DanFastError: ``kernel`` is not square, or smaller than ``size``.
    """
    _check_square(kernel)
    if len(kernel) < size:
        raise DanFastError(f"a kernel of {len(kernel)}x{len(kernel)} taps cannot be cropped to {size}x{size}: "
                           "expected one that is not smaller")
    before = len(kernel) // 2 - size // 2
    return kernel[before:before + size, before:before + size]


def _check_square(kernel: np.ndarray) -> None:
    """Raise ``DanFastError`` if ``kernel`` is not (k, k)."""
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1]:
        raise DanFastError(f"a kernel has shape {kernel.shape}, expected (k, k)")
