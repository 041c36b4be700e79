"""Images with an alpha channel: replacing colours that nobody sees, and enlarging alpha without rings.

Alpha is straight: a pixel shows ``alpha * colour``. Where alpha is 0 a file may hold any colour, and a network, which
reads a neighbourhood of each pixel, would carry it into the visible rim.
"""

from __future__ import annotations

import cv2
import numpy as np

# Below this share of the largest alpha, a colour is trusted in proportion to its alpha. Files that once held
# alpha * colour in 8 bits have lost most of the colour there.
_FAINT = 16 / 255
_ROWS = 256  # rows of alpha that are enlarged at once


def extend_colours(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Extend the visible colours of ``pixels`` over transparent places.

    The result does not depend on hidden colours. It is the weighted mean over a neighbourhood that grows until
    something in it is visible (push-pull: Gortler et al., *The Lumigraph*, 1996).

    Args:
        pixels: HxWx3 or HxW, uint8 or uint16.
        alpha: HxW of the same type.

    Returns:
        ``pixels`` itself if it is all opaque; else an array of the same shape and type, black if nothing is visible.
    """
    largest = np.iinfo(alpha.dtype).max
    if (alpha == largest).all():
        return pixels
    weights = (alpha / np.float32(largest)).astype(np.float32)[..., None]
    colours = pixels.reshape(*alpha.shape, -1).astype(np.float32)
    trust = np.minimum(weights / np.float32(_FAINT), 1)
    weights = weights * trust
    extended = colours * trust + _pulled(colours * weights, weights) * (1 - trust)
    result = np.where(trust == 1, colours, extended).round().clip(0, largest)
    return result.astype(pixels.dtype).reshape(pixels.shape)


def _pulled(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Divide ``sums`` (H, W, C) by ``weights`` (H, W, 1); where these are small, over a wider neighbourhood."""
    height, width = weights.shape[:2]
    mean = np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0)
    if max(height, width) == 1:
        return mean
    wider = _pulled(_halved(sums), _halved(weights))
    wider = cv2.resize(wider, (wider.shape[1] * 2, wider.shape[0] * 2), interpolation=cv2.INTER_LINEAR)
    wider = wider.reshape(*wider.shape[:2], -1)[:height, :width]
    enough = np.minimum(weights, 1)
    return mean * enough + wider * (1 - enough)


def _halved(values: np.ndarray) -> np.ndarray:
    """Add up blocks of 2x2 pixels; pixels beyond the end are zero."""
    height, width = values.shape[:2]
    values = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]


def upscale_alpha(alpha: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge ``alpha`` (H, W) to (H*scale, W*scale): bicubic, but within the range of the four nearest pixels.

    A hard edge thus gets no rings, a constant area stays constant, and an opaque one stays opaque.
    """
    parts = []
    for begin in range(0, len(alpha), _ROWS):
        rows = np.clip(np.arange(begin - 2, min(begin + _ROWS, len(alpha)) + 2), 0, len(alpha) - 1)
        parts.append(_enlarged(alpha[rows], scale)[2 * scale:-2 * scale])
    return np.concatenate(parts)


def _enlarged(alpha: np.ndarray, scale: int) -> np.ndarray:
    height, width = alpha.shape
    smooth = cv2.resize(alpha.astype(np.float32), (width * scale, height * scale), interpolation=cv2.INTER_CUBIC)
    (top, bottom), (left, right) = (_neighbours(size, scale) for size in (height, width))
    # Smallest and largest of the two nearest rows, then of the two nearest columns.
    lowest, highest = (function(alpha[top], alpha[bottom]) for function in (np.minimum, np.maximum))
    lowest, highest = np.minimum(lowest[:, left], lowest[:, right]), np.maximum(highest[:, left], highest[:, right])
    return np.clip(np.rint(smooth), lowest, highest).astype(alpha.dtype)


def _neighbours(size: int, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the pixels before and after each of ``size * scale`` places."""
    before = np.floor((np.arange(size * scale) + 0.5) / scale - 0.5).astype(int)
    return before.clip(0), (before + 1).clip(max=size - 1)
