"""Pixels of 16-bit files, which Pillow opens but would reduce to 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import numpy as np
from PIL import ImageFile

Opener = Callable[[], AbstractContextManager[ImageFile.ImageFile]]


def decode_png(reopen: Opener) -> np.ndarray:
    """HxWxC uint16 of a PNG: C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.

    Args:
        reopen: opens the file, by its header alone; called once for each byte of a sample.
    """
    # Not OpenCV: its libpng prints what it thinks of a file.
    with reopen() as image:
        raw, transparent = str(image.tile[0][3]), image.info.get("transparency")
    if raw.startswith("LA"):
        # Four bytes a pixel, which any mode of four bytes brings as they are.
        pixels = _bytes_of(reopen, "RGBA", "RGBA").view(">u2").astype(np.uint16)
    elif raw.startswith("RGB"):
        mode = raw.partition(";")[0]
        high, low = (_bytes_of(reopen, mode, f"{mode};16{order}") for order in "BL")
        pixels = high.astype(np.uint16) << 8 | low
    else:
        with reopen() as image:
            pixels = np.asarray(image).astype(np.uint16)[..., None]
    if transparent is None or pixels.shape[2] not in (1, 3):
        return pixels
    seen = (pixels != np.array(transparent)).any(2, keepdims=True)
    return np.concatenate([pixels, seen * np.uint16(65535)], 2)


def _bytes_of(reopen: Opener, mode: str, raw: str) -> np.ndarray:
    """HxWxC uint8: the file's rows as Pillow unpacks them if it takes them for ``raw``.

    Of two bytes a sample, what it calls little-endian is the second and big-endian the first.
    """
    with reopen() as image:
        codec, box, offset, _ = image.tile[0]
        image._mode = mode
        image.tile = [(codec, box, offset, raw)]  # type: ignore[list-item]
        return np.asarray(image)


def decode_tiff(path: Path, image: ImageFile.ImageFile) -> np.ndarray | None:
    """HxWxC uint16 of a TIFF, as ``decode_png`` gives it, but upright already; None if it cannot be decoded."""
    if image.mode not in ("RGB", "RGBA") and not image.mode.startswith("I;16"):
        return None
    # OpenCV returns the rest of a truncated file as grey without a word; Pillow complains.
    image.load()
    try:
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # it says where in OpenCV, not what is wrong
        return None
    if pixels is None or pixels.dtype != np.uint16:
        return None
    # OpenCV takes no notice of what a zero means.
    if getattr(image, "tag_v2", {}).get(262) == 0:
        pixels = 65535 - pixels
    if pixels.ndim == 2:
        return pixels[..., None]
    return pixels[..., [2, 1, 0, 3][:pixels.shape[2]]]
