"""The data that an image file carries beside its pixels: the EXIF orientation and the ICC colour profile."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .limits import exif_fits

_ORIENTATION = 0x0112


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, where there is none or it cannot be read."""
    try:
        if not exif_fits(image.info.get("exif", b"")):
            return 1
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # broken metadata does not make the picture unreadable
        return 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror ``pixels`` (H, W, C) as the EXIF orientation says."""
    # 2 to 4 mirror or turn by half; 5 to 8 are the same on the transposed image.
    if orientation in (5, 6, 7, 8):
        pixels, orientation = pixels.swapaxes(0, 1), orientation - 4
    if orientation in (3, 4):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3) else pixels


def icc_profile(image: Image.Image) -> bytes | None:
    """The colour profile that is embedded in the file, or None."""
    return image.info.get("icc_profile") or None


def is_grey_profile(profile: bytes) -> bool:
    """Whether an ICC profile is for grey images; it does not fit RGB."""
    return profile[16:20] == b"GRAY"
