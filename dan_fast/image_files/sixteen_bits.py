"""Pixels of 16-bit files, which Pillow opens but would reduce to 8 bits."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import ImageFile

from .opening import Source, open_header


def decode_png(source: Source) -> np.ndarray:
    """The pixels of a PNG, (H, W, C) uint16: C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
    # Not with OpenCV, whose libpng prints warnings and errors about the file.
    with open_header(source) as image:
        raw, transparent = str(image.tile[0][3]), image.info.get("transparency")
    if raw.startswith("LA"):
        # Four bytes per pixel: Pillow leaves them as they are if it takes them for any mode of four bytes.
        pixels = _bytes_of(source, "RGBA", "RGBA").view(">u2").astype(np.uint16)
    elif raw.startswith("RGB"):
        mode = raw.partition(";")[0]
        high, low = (_bytes_of(source, mode, f"{mode};16{order}") for order in "BL")
        pixels = high.astype(np.uint16) << 8 | low
    else:
        with open_header(source) as image:
            pixels = np.asarray(image).astype(np.uint16)[..., None]
    if transparent is None or pixels.shape[2] not in (1, 3):
        return pixels
    opaque = (pixels != np.array(transparent)).any(2, keepdims=True)
    return np.concatenate([pixels, opaque * np.uint16(65535)], 2)


def _bytes_of(source: Source, mode: str, raw: str) -> np.ndarray:
    """One byte per sample, (H, W, C) uint8: the file's rows as Pillow unpacks them if it takes them for ``raw``.

    Taken for big-endian a sample's first byte is kept, for little-endian the second.
    """
    with open_header(source) as image:
        codec, box, offset, _ = image.tile[0]
        image._mode = mode
        image.tile = [(codec, box, offset, raw)]  # type: ignore[list-item]
        return np.asarray(image)


def decode_tiff(source: Source, image: ImageFile.ImageFile) -> np.ndarray | None:
    """The pixels of a TIFF as ``decode_png`` gives them, but upright already; None if they cannot be decoded."""
    if image.mode not in ("RGB", "RGBA") and not image.mode.startswith("I;16"):
        return None
    # OpenCV fills up a truncated file with grey without a word; Pillow raises an error.
    image.load()
    with source.open("rb") as file:
        data = np.frombuffer(file.read(), np.uint8)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:  # its text is about OpenCV's code
        return None
    if pixels is None or pixels.dtype != np.uint16:
        return None
    # OpenCV does not invert images in which 0 is white.
    if getattr(image, "tag_v2", {}).get(262) == 0:
        pixels = 65535 - pixels
    if pixels.ndim == 2:
        return pixels[..., None]
    return pixels[..., [2, 1, 0, 3][:pixels.shape[2]]]
