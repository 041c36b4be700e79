"""Pictures of kernels, and of images side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def kernel_picture(kernel: np.ndarray, size: int = 168) -> np.ndarray:
    """Paint a kernel in colours from black (0 and below) through red to bright yellow (its maximum).

    Args:
        kernel: (k, k), with any sum; an array or a CPU tensor.
        size: side of the picture.

    Returns:
        (size, size, 3) uint8 RGB; each tap is a square.

    Raises:
        ValueError: ``kernel`` is not a square matrix.
    """
    kernel = np.asarray(kernel, dtype=np.float32)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or kernel.size == 0:
        raise ValueError(f"kernel has shape {kernel.shape}, expected (k, k)")
    grey = np.rint(255 * np.clip(kernel / max(kernel.max(), 1e-12), 0, 1)).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return cv2.resize(colours, (size, size), interpolation=cv2.INTER_NEAREST)


def side_by_side(images: Sequence[np.ndarray], labels: Sequence[str]) -> np.ndarray:
    """Put images in a row on white, each below its label.

    Args:
        images: (H, W, 3) uint8 RGB each; lower ones are centred vertically.
        labels: one per image; what is not ASCII is drawn as a question mark.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: there is no image, one is of another kind, or there are more or fewer labels.
    """
    if not images or len(images) != len(labels):
        raise ValueError(f"{len(images)} images and {len(labels)} labels: expected at least one, and as many labels")
    for image in images:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image has shape {image.shape} and type {image.dtype}, expected (height, width, 3) uint8")
    height = max(image.shape[0] for image in images)
    bar = max(24, height // 20)
    gap = bar // 4
    width = sum(image.shape[1] for image in images) + gap * (len(images) + 1)
    sheet = np.full((bar + height + gap, width, 3), 255, np.uint8)
    left = gap
    for image, label in zip(images, labels, strict=True):
        h, w = image.shape[:2]
        top = bar + (height - h) // 2
        sheet[top:top + h, left:left + w] = image
        _write(sheet[:bar, left:left + w], label)
        left += w + gap
    return sheet


def _write(field: np.ndarray, text: str) -> None:
    """Draw ``text`` into ``field`` (h, w, 3), as large as it fits."""
    text = text.encode("ascii", "replace").decode()  # OpenCV's font has no more
    (width, height), _ = cv2.getTextSize(text, _FONT, 1, 1)
    scale = min(0.5 * field.shape[0] / max(height, 1), field.shape[1] / max(width, 1))
    origin = (0, round(0.7 * field.shape[0]))
    label = np.full(field.shape, 255, np.uint8)  # cv2 draws on whole arrays only
    cv2.putText(label, text, origin, _FONT, scale, (0, 0, 0), max(1, round(scale)), cv2.LINE_AA)
    field[:] = label
