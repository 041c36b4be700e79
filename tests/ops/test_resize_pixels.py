"""Resizing of 8- and 16-bit images to any size, in bands."""

import math

import numpy as np
import pytest

from dan_fast.ops import resize
from dan_fast.ops.resize import resize_pixels


def keys(x):
    x = abs(x)
    return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def matrix(old, new):
    """MATLAB's imresize of one axis as a matrix (new, old), from its definition."""
    factor = new / old
    stretch = max(1.0, 1 / factor)
    rows = np.zeros((new, old))
    for i in range(new):
        centre = (i + 0.5) / factor - 0.5
        taps = range(math.floor(centre - 2 * stretch), math.ceil(centre + 2 * stretch) + 1)
        weights = [keys((centre - j) / stretch) for j in taps]
        for j, weight in zip(taps, weights, strict=True):
            j %= 2 * old  # symmetric border
            rows[i, j if j < old else 2 * old - 1 - j] += weight / sum(weights)
    return rows


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [(), (1,), (3,)])
@pytest.mark.parametrize("old, new", [((40, 30), (33, 21)), ((17, 23), (17, 40)), ((9, 30), (31, 11)),
                                      ((1, 1), (3, 2)), ((25, 60), (1, 1)), ((31, 37), (31, 37))])
def test_it_is_matlabs(old, new, channels, dtype, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (*old, *channels)).astype(dtype)
    exact = np.einsum("ah,hw...,bw->ab...", matrix(old[0], new[0]), pixels.astype(float), matrix(old[1], new[1]))
    exact = exact.clip(0, np.iinfo(dtype).max)
    for band in (1 << 22, 100):
        monkeypatch.setattr(resize, "_BAND", band)
        found = resize_pixels(pixels[::-1][::-1], *new)
        assert found.shape == (*new, *channels) and found.dtype == dtype
        # Half a step of rounding, and float32 of a few sums.
        assert abs(found - exact).max() <= 0.5 + 2e-6 * np.iinfo(dtype).max


@pytest.mark.parametrize("pixels, height", [(np.zeros((4, 4), np.float32), 3), (np.zeros((4, 4), np.uint8), 0)])
def test_refusals(pixels, height):
    with pytest.raises(ValueError, match="expected uint8 or uint16 and a positive size"):
        resize_pixels(pixels, height, 5)
