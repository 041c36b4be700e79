"""Parts of images."""

from __future__ import annotations

import numpy as np


def crop_to_multiple(image: np.ndarray, scale: int) -> np.ndarray:
    """``image`` (H, W, ...) without the last rows and columns, so that ``scale`` divides its sides; contiguous."""
    height, width = (side - side % scale for side in image.shape[:2])
    return np.ascontiguousarray(image[:height, :width])


def middle(image: np.ndarray, side: int) -> np.ndarray:
    """The ``side`` x ``side`` pixels in the middle of ``image`` (H, W, ...), or as many as it has."""
    top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
    return image[top:top + side, left:left + side]
