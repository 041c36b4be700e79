"""Metadata put into encoded PNG and JPEG files, whose pixels stay as they are."""

from __future__ import annotations

import struct
import zlib

# Bytes of EXIF data and of XMP that one segment of a JPEG holds, beside its length and its mark.
_SEGMENT = 65_535 - 2
_EXIF_MARK, XMP_MARK = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
JPEG_EXIF, JPEG_XMP = _SEGMENT - len(_EXIF_MARK), _SEGMENT - len(XMP_MARK)
JPEG_DPI = 65_535
_METRE = 1 / 0.0254  # in inches


def with_chunks(png: bytes, exif: bytes | None, xmp: bytes | None, dpi: tuple[float, float] | None,
                icc_profile: bytes | None) -> bytes:
    """Put metadata and a colour profile, as they are given, behind the header of a PNG."""
    # OpenCV can embed profiles since 4.12, but refuses to write the image if one is not perfect.
    chunks = [
        (b"eXIf", exif),
        (b"iCCP", icc_profile and b"ICC profile\0\0" + zlib.compress(icc_profile)),
        (b"pHYs", dpi and struct.pack(">IIB", *(round(side * _METRE) for side in dpi), 1)),
        # Neither compressed nor in a language.
        (b"iTXt", xmp and b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
    ]
    header = 8 + 25  # bytes of the signature and the header chunk, which must come first
    return png[:header] + b"".join(_chunk(name, data) for name, data in chunks if data) + png[header:]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_segments(jpeg: bytes, exif: bytes | None, xmp: bytes | None) -> bytes:
    """Put EXIF data and XMP, of at most ``JPEG_EXIF`` and ``JPEG_XMP`` bytes, behind the JFIF segment of a JPEG."""
    start = 2
    if jpeg[2:4] == b"\xff\xe0":
        start += 2 + int.from_bytes(jpeg[4:6], "big")
    segments = [mark + data for mark, data in ((_EXIF_MARK, exif), (XMP_MARK, xmp)) if data]
    return jpeg[:start] + b"".join(b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
                                   for segment in segments) + jpeg[start:]
