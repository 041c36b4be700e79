"""XMP, metadata as XML, changed where it speaks of the image's size and orientation; all else stays as it is."""

from __future__ import annotations

import re

_THUMBNAILS = b"<xmp:Thumbnails", b"</xmp:Thumbnails>"


def upright_xmp(xmp: bytes) -> bytes:
    """Set the orientation to 1, as pixels are turned upright, and drop the thumbnails, which show another image."""
    before, opening, rest = xmp.partition(_THUMBNAILS[0])
    _, closing, after = rest.partition(_THUMBNAILS[1])
    return _with_number(before + after if opening and closing else xmp, b"tiff:Orientation", 1)


def xmp_with_size(xmp: bytes, height: int, width: int) -> bytes:
    """Correct the image's size where ``xmp`` tells it."""
    for name, size in ((b"exif:PixelXDimension", width), (b"exif:PixelYDimension", height),
                       (b"tiff:ImageWidth", width), (b"tiff:ImageLength", height)):
        xmp = _with_number(xmp, name, size)
    return xmp


def _with_number(xmp: bytes, name: bytes, number: int) -> bytes:
    """Replace the number of ``name``, which is an attribute or an element."""
    return re.sub(rb"(?<![/\w])(" + name + rb"""(?:\s*=\s*["']|\s*>))\s*\d+""", rb"\g<1>%d" % number, xmp)
