"""How a large image is cut: tiles with a halo, and the crop that shows the blur best."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..config import DANConfig

# A published network sees 104 pixels far, but hardly: cut at 24 or 28, no 8-bit value changed by
# more than 1 (at 16: by 11; random weights). 28 is all that 12 blocks see.
LARGEST_HALO = 28
_CELL = 32


class Tile(NamedTuple):
    """One tile in LR pixels, as (rows, columns) of the whole image.

    Attributes:
        core: what the tile contributes; the cores partition the image.
        window: what the network sees: the core and its halo, cut off at the image's border.
    """

    core: tuple[slice, slice]
    window: tuple[slice, slice]

    def core_in_window(self, scale: int) -> tuple[slice, slice]:
        """Where the core lies in the network's output for the window, in HR pixels."""
        rows, columns = (slice((c.start - w.start) * scale, (c.stop - w.start) * scale)
                         for c, w in zip(self.core, self.window, strict=True))
        return rows, columns

    def core_in_output(self, scale: int) -> tuple[slice, slice]:
        """Where the core lies in the whole output, in HR pixels."""
        rows, columns = (slice(c.start * scale, c.stop * scale) for c in self.core)
        return rows, columns


def tiles(height: int, width: int, side: int, halo: int) -> list[Tile]:
    """Cut ``height`` x ``width`` into tiles of at most ``side``, all about equally large."""
    rows, columns = _cuts(height, side, halo), _cuts(width, side, halo)
    return [Tile((r, c), (rw, cw)) for r, rw in rows for c, cw in columns]


def _cuts(length: int, side: int, halo: int) -> list[tuple[slice, slice]]:
    count = math.ceil(length / side)
    edges = [length * i // count for i in range(count + 1)]
    return [(slice(a, b), slice(max(0, a - halo), min(length, b + halo)))
            for a, b in pairwise(edges)]


def halo_of(config: DANConfig) -> int:
    """The halo for a network: as far as its Restorer sees, but at most ``LARGEST_HALO``."""
    blocks = config.blocks * max(config.groups, 1)
    # Head, two 3x3 convolutions a block, fusion, upsampler (or the bicubic filter beside it).
    return min(LARGEST_HALO, 1 + 2 * blocks + 1 + 2)


def tile_side(config: DANConfig, budget: int) -> int:
    """The largest tile (without its halo) whose tensors stay within about ``budget`` bytes, at least 64."""
    area = config.scale**2
    # The published upsampler holds its widest map twice, before and after PixelShuffle; the
    # blocks hold a few maps of the input's size, and around the output there are a few images.
    values = config.channels * (8 + (2 * area if config.upsampler == "published" else 0)) + 18 * area
    return max(64, math.isqrt(budget // (4 * values)) - 2 * halo_of(config))


def most_textured(image: np.ndarray, side: int) -> tuple[slice, slice]:
    """The window of at most ``side`` x ``side`` with the largest gradient energy, on a grid of 32.

    Args:
        image: HxW or HxWxC, any numeric type.
        side: a multiple of 32.
    """
    height, width = image.shape[:2]
    # Strip by strip, so that a huge image is never held as floats.
    cells = np.stack([_cell_energies(image[top:top + _CELL + 1]) for top in range(0, height, _CELL)])
    window = tuple(min(side // _CELL, n) for n in cells.shape)
    sums = np.lib.stride_tricks.sliding_window_view(cells, window).sum((2, 3))
    row, column = np.unravel_index(sums.argmax(), sums.shape)
    return _cut(int(row) * _CELL, side, height), _cut(int(column) * _CELL, side, width)


def _cut(start: int, side: int, length: int) -> slice:
    """``side`` pixels from about ``start`` on, within ``length``."""
    start = max(0, min(start, length - side))
    return slice(start, min(start + side, length))


def _cell_energies(strip: np.ndarray) -> np.ndarray:
    """Sum of squared differences in each 32 columns of a strip of up to 33 rows."""
    grey = strip.astype(np.float32)
    if grey.ndim == 3:
        grey = grey.mean(2)
    energy = np.zeros(grey.shape[1])
    energy[:-1] += (np.diff(grey[:_CELL], axis=1) ** 2).sum(0)
    energy += (np.diff(grey, axis=0) ** 2).sum(0)
    return np.add.reduceat(energy, range(0, len(energy), _CELL))
