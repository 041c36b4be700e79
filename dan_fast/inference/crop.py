"""The part of an image that shows its blur best: flat parts say nothing about it."""

from __future__ import annotations

import numpy as np

_CELL = 32


def most_textured(image: np.ndarray, side: int) -> tuple[slice, slice]:
    """The window of at most ``side`` x ``side`` pixels with the largest gradient energy, on a grid of 32.

    Args:
        image: HxW or HxWxC, any numeric type.
        side: a multiple of 32.
    """
    height, width = image.shape[:2]
    # Strip by strip, so that a huge image never becomes floats as a whole.
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
    """The sum of squared differences per 32 columns of a strip of up to 33 rows."""
    grey = strip.astype(np.float32)
    if grey.ndim == 3:
        grey = grey.mean(2)
    energy = np.zeros(grey.shape[1])
    energy[:-1] += (np.diff(grey[:_CELL], axis=1) ** 2).sum(0)
    energy += (np.diff(grey, axis=0) ** 2).sum(0)
    return np.add.reduceat(energy, range(0, len(energy), _CELL))
