"""Cells: the s x s pixels of the result that belong to an LR pixel, as channels of the LR grid.

The Restorer writes its result as cells, and the Estimator reads it with a convolution of stride s. On cells that is a
convolution of stride 1, zero padding included, and the bicubic upscaling is a convolution of ``lr``. So the image
itself is needed only once, after the last iteration. The order of a cell's values is (row, column, colour): in
channels_last a cell's row is a piece of a row of the image.
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
    """Reorder ``values`` along ``dim`` from the order of ``PixelShuffle``, (colour, row, column), to that of cells."""
    return values.unflatten(dim, (-1, scale**2)).transpose(dim, dim + 1).flatten(dim, dim + 1)


def strided_weight(weight: Tensor, scale: int) -> tuple[Tensor, int]:
    """The weight for cells of a convolution of their image, with stride ``scale`` and padding ``size // 2``.

    Args:
        weight: (out, colours, size, size), size odd.

    Returns:
        (out, s*s*colours, n, n), for stride 1, and its padding ``n // 2``.
    """
    padding = weight.shape[2] // 2
    reach = -(-padding // scale)  # cells
    before = reach * scale - padding
    after = (reach + 1) * scale - 1 - padding
    whole = F.pad(weight, (before, after, before, after))
    parts = whole.unflatten(3, (-1, scale)).unflatten(2, (-1, scale))  # out, colour, cell, row, cell, column
    return parts.permute(0, 3, 5, 1, 2, 4).flatten(1, 3).contiguous(memory_format=torch.channels_last), reach


def convolve_result(cells: Tensor, conv: Any, scale: int) -> Tensor:
    """``conv``, of stride ``scale``, of the image that the ``cells`` belong to: (B, out, h, w); differentiable."""
    weight, padding = strided_weight(conv.weight, scale)
    return F.conv2d(cells, weight, conv.bias, padding=padding)


class Bicubic:
    """``F.interpolate(lr, scale_factor=scale, mode="bicubic")`` as cells.

    Args:
        colours: channels of ``lr``.
        scale: 2, 3 or 4.
        like: a tensor with the dtype and the device of ``lr``.
    """

    def __init__(self, colours: int, scale: int, like: Tensor) -> None:
        self._weight = _bicubic_weight(colours, scale, like.dtype, like.device)

    def __call__(self, lr: Tensor) -> Tensor:
        """(B, colours, h, w) -> (B, s*s*colours, h, w)."""
        return F.conv2d(F.pad(lr, (_BICUBIC_REACH,) * 4, mode="replicate"), self._weight)


# Cached, as it is copied from the host: a plan that is made while a CUDA graph is captured must not wait for that.
@cache
def _bicubic_weight(colours: int, scale: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    side = 2 * _BICUBIC_REACH + 1
    impulse = torch.zeros(1, 1, 2 * side + 1, 2 * side + 1, dtype=torch.float64)
    impulse[..., side, side] = 1
    response = F.interpolate(impulse, scale_factor=scale, mode="bicubic", align_corners=False)
    # The impulse response is the mirrored filter: flip it.
    near = slice(side - _BICUBIC_REACH, side + _BICUBIC_REACH + 1)
    phases = F.pixel_unshuffle(response, scale)[0, :, near, near].flip(1, 2)
    weight = torch.einsum("pyx,oc->pocyx", phases, torch.eye(colours, dtype=torch.float64)).flatten(0, 1)
    return weight.to(device, dtype, memory_format=torch.channels_last)
