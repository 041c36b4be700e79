"""Blur every image with its own kernel, in plain PyTorch."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def blur(image: Tensor, kernel: Tensor) -> Tensor:
    """Correlate every image with its kernel (not flipped), borders reflected.

    Args:
        image: (B, C, H, W) floating point; H and W larger than ``k // 2``.
        kernel: (B, k, k), odd or even; centred on ``k // 2``.

    Returns:
        (B, C, H, W), dtype of ``image``.

    Raises:
        ValueError: shapes do not fit, or the image is too small to reflect its border.
    """
    if image.dim() != 4 or kernel.dim() != 3 or kernel.shape[1] != kernel.shape[2] or len(image) != len(kernel):
        raise ValueError(f"image {tuple(image.shape)} and kernel {tuple(kernel.shape)} do not fit: "
                         "expected (B, C, H, W) and (B, k, k)")
    batch, _, height, width = image.shape
    k = kernel.shape[1]
    if min(height, width) <= k // 2:
        raise ValueError(f"image is {height}x{width}: a {k}x{k} kernel needs more than {k // 2} pixels on each side")
    before, after = k // 2, (k - 1) // 2
    padded = F.pad(image, (before, after, before, after), mode="reflect")
    # One group per image: channels take the place of the batch.
    out = F.conv2d(padded.transpose(0, 1), kernel[:, None].to(image.dtype), groups=batch)
    return out.transpose(0, 1)
