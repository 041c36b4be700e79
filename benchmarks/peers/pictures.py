"""One crop of a photo that ships, as every entry restores it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from dan_fast.errors import DanFastError
from dan_fast.evaluation.degraded_set import isotropic
from dan_fast.evaluation.pictures import side_by_side
from dan_fast.files import write_atomically
from dan_fast.image_files import encode_image

from .entries import COMPARED, Entry
from .measuring import photos

MOST_BYTES = 300_000
COLUMNS = 4  # pictures in a row
ENLARGED = 2
# The picture of Gaussian8 shows one of its eight kernels.
SHOWN = {**COMPARED, "gaussian8": isotropic(2.4)}


def draw(entries: Sequence[Entry], protocol: str, size: int, path: Path) -> None:
    """Write a JPEG of the sharp crop and of every entry's, ``size`` pixels wide, enlarged twice.

    The whole photo is degraded and upscaled; its middle is shown.

    Raises:
        DanFastError: the file cannot be written.
    """
    case = next(iter(photos(SHOWN[protocol])))
    crops = [("sharp", _middle(case.hr, size))]
    crops += [(entry.label, _middle(entry.upscale(case).image, size)) for entry in entries
              if protocol in entry.protocols]
    picture = _grid([crop for _, crop in crops], [label for label, _ in crops])
    try:
        write_atomically(path, _small_enough(picture))
    except OSError as error:
        raise DanFastError(f"{path}: cannot be written: {error.strerror}") from None


def _middle(image: np.ndarray, size: int) -> np.ndarray:
    """The middle (size, size, 3) of an image, or all of it where it is smaller, enlarged without smoothing."""
    height, width = image.shape[:2]
    top, left = max(0, height - size) // 2, max(0, width - size) // 2
    crop = image[top:top + size, left:left + size]
    return cv2.resize(crop, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_NEAREST)


def _grid(images: Sequence[np.ndarray], labels: Sequence[str]) -> np.ndarray:
    """Rows of ``COLUMNS`` images of one size, the last filled up with white."""
    missing = -len(images) % COLUMNS
    images = [*images, *[np.full_like(images[0], 255)] * missing]
    labels = [*labels, *[" "] * missing]
    return np.concatenate([side_by_side(images[start:start + COLUMNS], labels[start:start + COLUMNS])
                           for start in range(0, len(images), COLUMNS)])


def _small_enough(picture: np.ndarray) -> bytes:
    """The picture as JPEG, in the best quality that does not take more than ``MOST_BYTES``."""
    for quality in range(92, 20, -4):
        data, _ = encode_image(".jpg", picture, quality=quality)
        if len(data) <= MOST_BYTES:
            return data
    raise DanFastError(f"a picture of {picture.shape[1]}x{picture.shape[0]} pixels takes more than {MOST_BYTES} bytes "
                       "as JPEG: --crop must be smaller")
