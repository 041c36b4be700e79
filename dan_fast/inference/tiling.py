"""Cuts a large image into tiles with a halo."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from ..config import DANConfig
from ..fast_model.reach import result_reach

# A published network sees 117 pixels far, but little of what is far away: with a halo of 24 or 28 no 8-bit value
# changed by more than 1, with 16 by 11 (random weights). 28 is all that a Restorer of 12 blocks sees.
LARGEST_HALO = 28


class Tile(NamedTuple):
    """One tile, as (rows, columns) of the whole image in LR pixels.

    Attributes:
        core: the pixels whose result the tile gives; the cores partition the image.
        window: the pixels that the network sees: at least the core and its halo, up to the image's edge.
    """

    core: tuple[slice, slice]
    window: tuple[slice, slice]

    @classmethod
    def whole(cls, height: int, width: int) -> Tile:
        """The tile that is a whole image."""
        everything = slice(0, height), slice(0, width)
        return cls(everything, everything)

    @property
    def pixels(self) -> int:
        """LR pixels of the core."""
        return math.prod(part.stop - part.start for part in self.core)

    def core_in_window(self, scale: int = 1) -> tuple[slice, slice]:
        """Where the core lies in the window, in pixels of an image ``scale`` times as large."""
        rows, columns = (slice((c.start - w.start) * scale, (c.stop - w.start) * scale)
                         for c, w in zip(self.core, self.window, strict=True))
        return rows, columns

    def core_in_output(self, scale: int) -> tuple[slice, slice]:
        """Where the core lies in the whole output, in HR pixels."""
        rows, columns = (slice(c.start * scale, c.stop * scale) for c in self.core)
        return rows, columns


def tiles(height: int, width: int, side: int, halo: int) -> list[Tile]:
    """Cut ``height`` x ``width`` pixels into tiles of at most ``side``: cores of about one size, windows of one."""
    rows, columns = list(_cuts(height, side, halo)), list(_cuts(width, side, halo))
    return [Tile((r, c), (rw, cw)) for r, rw in rows for c, cw in columns]


def _cuts(length: int, side: int, halo: int) -> Iterator[tuple[slice, slice]]:
    """Cores and windows along one axis."""
    count = math.ceil(length / side)
    edges = [length * i // count for i in range(count + 1)]
    window = min(length, math.ceil(length / count) + 2 * halo)
    for begin, end in pairwise(edges):
        start = min(max(0, begin - halo), length - window)
        yield slice(begin, end), slice(start, start + window)


def default_halo(config: DANConfig) -> int:
    """The halo that shows a tile all that its result depends on, but at most ``LARGEST_HALO``."""
    return min(LARGEST_HALO, result_reach(config))


def room(config: DANConfig, budget: int, value_bytes: int) -> int:
    """The number of LR pixels that the network can work on at once with tensors of about ``budget`` bytes."""
    # The blocks hold a few maps of the input's size; around the output there are a few images.
    values = 8 * max(config.channels, config.refiner_channels) + 18 * config.scale**2
    return budget // (value_bytes * values)


def tile_side(room: int, halo: int) -> int:
    """The side of the largest tile (without its halo) whose window has ``room`` pixels, at least 64."""
    return max(64, math.isqrt(room) - 2 * halo)
