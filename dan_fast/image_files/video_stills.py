"""Still pictures of video codecs, AVIF and HEIC, which share a container: opened by their brand."""

from __future__ import annotations

import re
from typing import BinaryIO

from PIL import Image, ImageFile

from ..errors import ImageError

_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_ANY_CODEC = {b"mif1", b"msf1"}
_HEADER = 1 << 16  # bytes of a file that hold its boxes of properties


def open_video_still(file: BinaryIO, name: str) -> ImageFile.ImageFile | None:
    """Open an AVIF or HEIC file by its header; None, and the file at its beginning, if it is neither.

    Raises:
        ImageError: it is, and what decodes it is not installed.
    """
    start = file.read(64)
    file.seek(0)
    if start[4:8] != b"ftyp":
        return None
    brands = {start[8:12]}
    if brands & _ANY_CODEC:  # the further brands tell
        end = min(int.from_bytes(start[:4], "big"), len(start))
        brands |= {start[place:place + 4] for place in range(16, end, 4)}
    if brands & {b"avif", b"avis"}:
        if not avif_is_supported():
            raise ImageError(f"{name}: reading AVIF needs Pillow 11.3 or later with AVIF: pip install -U pillow")
        return Image.open(file, formats=["AVIF"])  # type: ignore[return-value]
    if not brands & (_HEIC_BRANDS | _ANY_CODEC):
        return None
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError(f"{name}: HEIC photos need pillow-heif: pip install 'dan_fast[heic]'") from None
    try:
        return HeifImageFile(file)
    except SyntaxError as error:
        raise Image.UnidentifiedImageError(str(error)) from error


def avif_is_supported() -> bool:
    """Whether Pillow reads and writes AVIF: from 11.3, and not in all of its builds."""
    try:
        from PIL import AvifImagePlugin
    except ImportError:
        return False
    return AvifImagePlugin.SUPPORTED


def stored_samples(file: BinaryIO) -> tuple[int, bool]:
    """Bits per sample in an AVIF or HEIC file, and whether it is grey; (8, False) if its boxes do not tell."""
    file.seek(0)
    boxes = file.read(_HEADER)
    bits, grey = [], []
    for found in re.finditer(rb"av1C(.{4})|hvcC(.{19})", boxes, re.DOTALL):
        av1, hevc = found.groups()
        if av1:
            bits.append(8 + 2 * bool(av1[2] & 0x40) + 2 * bool(av1[2] & 0x20))
            grey.append(bool(av1[2] & 0x10))
        else:
            bits.append(8 + (hevc[17] & 7))
            grey.append(hevc[16] & 3 == 0)
    return max(bits, default=8), bool(grey) and all(grey)
