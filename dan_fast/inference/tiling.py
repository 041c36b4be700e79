"""How a large image is cut: tiles with a halo."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from ..config import DANConfig

# A published network sees 104 pixels far, but hardly: cut at 24 or 28, no 8-bit value changed by
# more than 1 (at 16: by 11; random weights). 28 is all that the Restorer of 12 blocks sees.
LARGEST_HALO = 28


class Tile(NamedTuple):
    """One tile in LR pixels, as (rows, columns) of the whole image.

    Attributes:
        core: what the tile contributes; the cores partition the image.
        window: what the network sees: at least the core and its halo, where the image goes on so far.
    """

    core: tuple[slice, slice]
    window: tuple[slice, slice]

    @classmethod
    def whole(cls, height: int, width: int) -> Tile:
        everything = slice(0, height), slice(0, width)
        return cls(everything, everything)

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
    """Cut ``height`` x ``width`` into tiles of at most ``side``, all about equally large, all windows equally large."""
    rows, columns = list(_cuts(height, side, halo)), list(_cuts(width, side, halo))
    return [Tile((r, c), (rw, cw)) for r, rw in rows for c, cw in columns]


def _cuts(length: int, side: int, halo: int) -> Iterator[tuple[slice, slice]]:
    count = math.ceil(length / side)
    edges = [length * i // count for i in range(count + 1)]
    window = min(length, math.ceil(length / count) + 2 * halo)
    for begin, end in pairwise(edges):
        start = min(max(0, begin - halo), length - window)
        yield slice(begin, end), slice(start, start + window)


def restorer_reach(config: DANConfig) -> int:
    """How many LR pixels around it a pixel of the Restorer's result depends on (v1: but for channel attention)."""
    blocks = config.blocks * max(config.groups, 1)
    # Head, two 3x3 convolutions a block, fusion, upsampler (or the bicubic filter beside it).
    return 1 + 2 * blocks + 1 + 2


def reach(config: DANConfig) -> int:
    """Of an iteration: how many LR pixels around it a pixel contributes to the kernel with."""
    # The Estimator's head of sr, two 3x3 convolutions a block, the tail.
    return restorer_reach(config) + 2 + 2 * config.estimator_blocks + 1


def default_halo(config: DANConfig) -> int:
    """As far as the Restorer sees, but at most ``LARGEST_HALO``."""
    return min(LARGEST_HALO, restorer_reach(config))


def room(config: DANConfig, budget: int, value_bytes: int) -> int:
    """How many LR pixels the network can work on at once so that its tensors stay within about ``budget`` bytes."""
    # The blocks hold a few maps of the input's size; around the output there are a few images.
    values = 8 * config.channels + 18 * config.scale**2
    return budget // (value_bytes * values)


def tile_side(room: int, halo: int) -> int:
    """Of the largest tile (without its halo) whose window has ``room`` pixels, at least 64."""
    return max(64, math.isqrt(room) - 2 * halo)
