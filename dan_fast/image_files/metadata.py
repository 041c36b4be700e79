"""The data that an image file carries beside its pixels: EXIF, XMP, resolution and ICC colour profile."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from .codec_noise import quiet_codecs
from .embedding import XMP_MARK
from .exif import note_of, read_exif, resolution_of, with_note, with_size
from .limits import exif_fits
from .opening import Source, open_header
from .tiff_tags import Tags
from .xmp import upright_xmp, xmp_with_size

_ORIENTATION, _XMP = 0x0112, 700
_LONGEST_XMP = 4 << 20  # bytes
_DPI = (0.01, 1e6)


@dataclass(frozen=True)
class Metadata:
    """Data about a photo that its result keeps.

    Attributes:
        exif: a TIFF structure, without the mark ``Exif``; pixels are upright.
        xmp: XML.
        dpi: pixels per inch, horizontal and vertical.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None

    def for_image(self, height: int, width: int) -> Metadata:
        """This metadata with the size of another image, where it tells the size."""
        return replace(self, exif=self.exif and with_size(self.exif, height, width),
                       xmp=self.xmp and xmp_with_size(self.xmp, height, width))

    def noted(self, text: str) -> Metadata:
        """This metadata with ``text``, ASCII, as the tag ProcessingSoftware; ``read_note`` reads it from a file."""
        return replace(self, exif=with_note(self.exif, text))


NO_METADATA = Metadata()


def read_metadata(source: Source, image: ImageFile.ImageFile) -> tuple[Metadata, tuple[str, ...]]:
    """Read what ``image``, opened from ``source`` and decoded, carries; and what of it is lost, one sentence each."""
    notes = []
    exif = dpi = xmp = None
    try:
        tags = _tags(source, image)
        exif, dpi = tags.to_bytes() if tags.root else None, resolution_of(tags)
        if tags.damaged:
            notes.append(f"{'a part of ' if exif else ''}its EXIF data is damaged and is left out")
    except Exception:  # broken metadata does not make the picture unreadable
        notes.append("its EXIF data is damaged and is left out")
    if found := _xmp(image):
        if len(found) <= _LONGEST_XMP:
            xmp = upright_xmp(found)
        else:
            notes.append(f"its XMP of {len(found)} bytes is left out")
    dpi = _stored_dpi(image) or dpi
    return Metadata(exif, xmp, dpi if dpi and all(_DPI[0] < side < _DPI[1] for side in dpi) else None), tuple(notes)


def read_note(path: str | Path) -> str | None:
    """Read the text of ``Metadata.noted`` from an image file without decoding pixels; None if there is none."""
    path = Path(path)
    try:
        with quiet_codecs(), open_header(path) as image:
            return note_of(_tags(path, image))
    except Exception:  # a file that is missing, broken or no image holds no note
        return None


def _tags(source: Source, image: ImageFile.ImageFile) -> Tags:
    """The EXIF data of an image, or the tags of a TIFF. Raises ValueError if it is damaged from the start."""
    if image.format == "TIFF":
        with source.open("rb") as file:
            return read_exif(file, of_tiff=True)
    data = _exif_data(image).removeprefix(b"Exif\0\0")
    return read_exif(io.BytesIO(data), of_tiff=False) if data else Tags()


def _exif_data(image: Image.Image) -> bytes:
    """The file's EXIF data, with or without its mark; empty for none. ImageMagick writes it into PNGs as text."""
    if text := image.info.get("Raw profile type exif"):
        return bytes.fromhex("".join(text.split("\n")[3:]))
    return image.info.get("exif") or b""


def _xmp(image: ImageFile.ImageFile) -> bytes | None:
    """The file's XMP, where the versions of Pillow keep it."""
    segments = (data for _, data in getattr(image, "applist", ()))
    found: Any = (image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or getattr(image, "tag_v2", {}).get(_XMP)
                  or next((data[len(XMP_MARK):] for data in segments if data.startswith(XMP_MARK)), None))
    if isinstance(found, str):
        found = found.encode()
    return found.rstrip(b"\0") if isinstance(found, bytes) else None


def _stored_dpi(image: ImageFile.ImageFile) -> tuple[float, float] | None:
    """Pixels per inch from the file's own header, not from EXIF; Pillow would make up 72 for JPEGs."""
    if image.format in ("PNG", "BMP"):
        dpi = image.info.get("dpi")
    else:
        factor = {1: 1.0, 2: 2.54}.get(image.info.get("jfif_unit", 0))
        dpi = tuple(side * factor for side in image.info["jfif_density"]) if factor else None
    return dpi if dpi and all(math.isfinite(side) and side > 0 for side in dpi) else None


def exif_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1, upright, where there is none or it cannot be read."""
    try:
        if not exif_fits(_exif_data(image)):
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
