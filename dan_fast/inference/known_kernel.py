"""A blur kernel that the user knows."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DanFastError


def known_kernel(kernel: np.ndarray | Tensor, size: int, device: torch.device) -> Tensor:
    """``kernel`` as a network of kernel size ``size`` takes it: (size, size) float32 on ``device``, sum 1.

    Args:
        kernel: (n, n), n odd and at most ``size``: its middle pixel is the middle. Any sum within 1 % of 1.

    Raises:
        DanFastError: it is no such kernel.
    """
    if not isinstance(kernel, Tensor):
        kernel = np.asarray(kernel)
        if kernel.dtype.kind not in "fiu":
            raise DanFastError(f"the kernel holds {kernel.dtype}, expected numbers")
        kernel = torch.from_numpy(kernel.astype(np.float64))
    kernel = kernel.to(device, torch.float64)
    if kernel.dim() != 2 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0 or len(kernel) > size:
        raise DanFastError(f"the kernel has shape {tuple(kernel.shape)}, expected a square of an odd number of pixels, "
                           f"at most {size} for this network")
    if not kernel.isfinite().all():
        raise DanFastError("the kernel holds numbers that are not finite")
    total = kernel.sum().item()
    if abs(total - 1) > 0.01:
        raise DanFastError(f"the kernel's sum is {total:.4g}, expected 1: divide it by its sum")
    margin = (size - len(kernel)) // 2
    return F.pad(kernel / total, (margin,) * 4).float()
