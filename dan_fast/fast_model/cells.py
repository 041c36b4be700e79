"""Cells: the s x s pixels of the result that belong to an LR pixel, as channels of the LR grid.

A network writes its result as cells and, but for the last iteration, reads it only with a convolution of stride s. So
the image itself need not be put together in between: that convolution is one of stride 1 on cells, its border of zeros
included, and the bicubic upscaling is one on ``lr``. The order of a cell's values is (row, column, colour), so that in
channels_last a cell's row is a row of the image.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_BICUBIC_REACH = 2  # LR pixels


def to_image(cells: Tensor, scale: int) -> Tensor:
    """(B, s*s*colours, h, w) -> (B, colours, h*s, w*s), channels_last."""
    batch, _, height, width = cells.shape
    rows = cells.permute(0, 2, 3, 1).unflatten(3, (scale, -1)).transpose(2, 3)
    return rows.reshape(batch, height * scale, width * scale, -1).permute(0, 3, 1, 2)


def to_cells(image: Tensor, scale: int) -> Tensor:
    """(B, colours, h*s, w*s) -> (B, s*s*colours, h, w)."""
    return in_cell_order(F.pixel_unshuffle(image, scale), scale, 1)


def in_cell_order(values: Tensor, scale: int, dim: int = 0) -> Tensor:
    """From the order of ``PixelShuffle``, (colour, row, column), along ``dim``."""
    return values.unflatten(dim, (-1, scale**2)).transpose(dim, dim + 1).flatten(dim, dim + 1)


def strided_weight(weight: Tensor, scale: int) -> tuple[Tensor, int]:
    """A convolution of ``image`` with stride ``scale`` and padding ``size // 2`` as one of its cells.

    Args:
        weight: (out, colours, size, size), size odd.

    Returns:
        (out, s*s*colours, n, n) and the padding ``n // 2``, for stride 1.
    """
    padding = weight.shape[2] // 2
    reach = -(-padding // scale)  # cells
    before = reach * scale - padding
    after = (reach + 1) * scale - 1 - padding
    whole = F.pad(weight, (before, after, before, after))
    parts = whole.unflatten(3, (-1, scale)).unflatten(2, (-1, scale))  # out, colour, cell, row, cell, column
    return parts.permute(0, 3, 5, 1, 2, 4).flatten(1, 3).contiguous(memory_format=torch.channels_last), reach


def convolve_result(cells: Tensor, conv: Any, scale: int) -> Tensor:
    """``conv`` of the image that ``cells`` stand for, with stride ``scale``: (B, out, h, w); differentiable."""
    weight, padding = strided_weight(conv.weight, scale)
    return F.conv2d(cells, weight, conv.bias, padding=padding)


class Bicubic:
    """``F.interpolate(lr, scale_factor=scale, mode="bicubic")`` as cells.

    Args:
        colours: of ``lr``.
        scale: 2, 3 or 4.
        like: a tensor of the dtype and on the device of ``lr``.
    """

    def __init__(self, colours: int, scale: int, like: Tensor) -> None:
        self._weight = _bicubic_weight(colours, scale, like.dtype, like.device)

    def __call__(self, lr: Tensor) -> Tensor:
        """(B, colours, h, w) -> (B, s*s*colours, h, w)."""
        return F.conv2d(F.pad(lr, (_BICUBIC_REACH,) * 4, mode="replicate"), self._weight)


# Kept, as it comes from the host, which a network that is made ready inside a CUDA graph must not wait for.
@cache
def _bicubic_weight(colours: int, scale: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    side = 2 * _BICUBIC_REACH + 1
    one = torch.zeros(1, 1, 2 * side + 1, 2 * side + 1, dtype=torch.float64)
    one[..., side, side] = 1
    response = F.interpolate(one, scale_factor=scale, mode="bicubic", align_corners=False)
    # A pixel sees the 1 in the direction opposite to the one that the 1 sees it in.
    near = slice(side - _BICUBIC_REACH, side + _BICUBIC_REACH + 1)
    phases = F.pixel_unshuffle(response, scale)[0, :, near, near].flip(1, 2)
    weight = torch.einsum("pyx,oc->pocyx", phases, torch.eye(colours, dtype=torch.float64)).flatten(0, 1)
    return weight.to(device, dtype, memory_format=torch.channels_last)
