"""Divides images among the programs of GPU kernels.

A channels_last image is a matrix (pixels, C), of which a program takes whole rows.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """``x`` in channels_last memory, copied only if it lies otherwise."""
    return x.contiguous(memory_format=torch.channels_last)


def tiles_of(x: Tensor, block: int) -> tuple[int, int, int, int, int]:
    """The numbers of images, channels and pixels per image; rows and columns of a tile with about ``block`` values."""
    images, channels, height, width = x.shape
    columns = triton.next_power_of_2(max(channels, 1))
    return images, channels, height * width, max(1, block // columns), columns


def parts_of(pixels: int, rows: int, programs: int) -> tuple[int, int]:
    """The number of parts of an image, from 1 to ``programs``, and the rows of each: whole tiles of ``rows`` rows."""
    tiles = triton.cdiv(pixels, rows)
    tiles_each = triton.cdiv(tiles, max(1, programs))
    return triton.cdiv(tiles, tiles_each), tiles_each * rows
