"""Headers that promise more pixels than their file can hold, refused before memory is taken for them."""

from __future__ import annotations

import io
import itertools
import math
import re
import struct
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from PIL import ImageFile

from .tiff_tags import WIDTHS

# Bytes that one compressed byte can expand to at most. Blank images come close to these best cases of the codecs:
# deflate has 258 bytes per match of 2 bits, LZW the longest strings of a table of 4096, PackBits 128 bytes from 2.
_DEFLATE = 1032
_TIFF_EXPANSION = {1: 1, 5: 1400, 8: _DEFLATE, 32946: _DEFLATE, 32773: 64}
# Zstandard repeats a byte 131072 times in a block of 4 bytes; LZMA and WebP expand no more in practice.
_OTHER_EXPANSION = 1 << 15
# A block of 8x8 pixels takes at least one bit, except with arithmetic coding, which hardly anyone writes: 512 pixels
# per byte, or almost twice that with the oddest subsampling.
_JPEG_PIXELS = 1024
# Progressive files have about ten scans; decoding a scan takes time for all pixels, however few bytes it has.
_MOST_SCANS = 200
_TIFF_START, _MOST_STARTS = re.compile(rb"II\*\0|MM\0\*"), 16
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]", re.DOTALL)
# The modes of a macroblock of 16x16 pixels take at least 3.4 bits, as their probabilities are fixed.
_WEBP_PIXELS = 1024
# libwebp writes up to 26000 pixels of one colour per byte, at its default effort and above.
_WEBP_FREE, _WEBP_LOSSLESS_PIXELS = 1 << 26, 1 << 15
_BMP_RLE_PIXELS = 128
# Video codecs code blank blocks of up to 128x128 pixels arithmetically, in a fraction of a bit: libaom, the tightest,
# 190,000 pixels of one colour per byte beyond the first hundreds of bytes, x265 4,400.
_VIDEO_FREE, _VIDEO_PIXELS = 1 << 24, {"AVIF": 1 << 18, "HEIF": 1 << 15}
_COMPRESSION, _ROWS_PER_STRIP, _TILE_WIDTH, _TILE_HEIGHT = 259, 278, 322, 323
_JPEG_IN_TIFF, _CCITT = (6, 7), (2, 3, 4)


def can_hold(image: ImageFile.ImageFile, file: BinaryIO, length: int) -> bool:
    """Whether a file of ``length`` bytes can hold the pixels that the header of ``image`` promises.

    The bound is the codec's best case, so that every sound file passes, however blank it is. Lossless and animated WebP
    have no such bound, as one colour may take the same few bytes at all sizes: up to 67 megapixels always pass, and
    beyond them the usual best case counts.
    """
    width, height = image.size
    if image.format == "PNG":
        return math.ceil(width * _png_bits(image) / 8) * height <= length * _DEFLATE
    if image.format in ("JPEG", "MPO"):
        return width * height <= length * _JPEG_PIXELS
    if image.format == "BMP":
        codec, _, _, arguments = image.tile[0]
        if codec == "raw":
            return int(arguments[1]) * height <= length  # type: ignore[index,arg-type]
        return width * height <= length * _BMP_RLE_PIXELS
    if image.format == "TIFF":
        return _tiff_can_hold(image, length)
    if image.format == "WEBP":
        if _is_lossy_webp(file):
            return width * height <= length * _WEBP_PIXELS
        return width * height <= _WEBP_FREE + length * _WEBP_LOSSLESS_PIXELS
    if image.format in _VIDEO_PIXELS:
        return width * height <= _VIDEO_FREE + length * _VIDEO_PIXELS[image.format]
    return True


def _is_lossy_webp(file: BinaryIO) -> bool:
    """Whether a WebP file holds a single lossy picture; an animation's canvas may be larger than its pictures."""
    position = 12
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or head[:4] in (b"VP8L", b"ANIM", b"ANMF"):
            return False
        if head[:4] == b"VP8 ":
            return True
        position += 8 + (struct.unpack("<I", head[4:])[0] + 1) // 2 * 2


def _png_bits(image: ImageFile.ImageFile) -> int:
    """Bits per pixel, from Pillow's name of the layout in the file: "1", "L;4", "RGB;16B" …"""
    mode, _, depth = str(image.tile[0][3]).partition(";")
    sample = int(depth.rstrip("BLN")) if depth else 1 if mode == "1" else 8
    return sample * {"LA": 2, "RGB": 3, "RGBA": 4}.get(mode, 1)


def _tiff_can_hold(image: ImageFile.ImageFile, length: int) -> bool:
    tags = getattr(image, "tag_v2", {})
    width, height = tags[256], tags[257]
    bits = _numbers(tags.get(258, 1))
    # YCbCr may leave out almost all of the colours.
    samples = 1 if tags.get(262) == 6 else max(len(bits), *_numbers(tags.get(277, 1)))
    chunk_width, chunk_height = width, min(height, *_numbers(tags.get(_ROWS_PER_STRIP, height)))
    if _TILE_WIDTH in tags:
        chunk_width, chunk_height = tags[_TILE_WIDTH], tags.get(_TILE_HEIGHT, height)
    if min(chunk_width, chunk_height) < 1:
        return False
    # Tiles at the edge are stored whole, strips are not.
    rows = math.ceil(height / chunk_height) * chunk_height if _TILE_WIDTH in tags else height
    columns = math.ceil(width / chunk_width) * chunk_width
    promised = rows * math.ceil(columns * samples * max(bits) / 8)
    compression = tags.get(_COMPRESSION, 1)
    if compression in _CCITT:
        return rows <= length * 8
    if compression in _JPEG_IN_TIFF:
        return rows * columns <= length * _JPEG_PIXELS
    return promised <= length * _TIFF_EXPANSION.get(compression, _OTHER_EXPANSION)


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Iterable) else (value,)


def _directory_fits(file: BinaryIO, length: int) -> bool:
    """Whether all values of a TIFF's (or EXIF's) first directory fit into its ``length`` bytes.

    Otherwise thousands of entries could point at the same megabyte, which Pillow would read for each of them.
    """
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is None or len(start) < 16:
        return True
    if struct.unpack(order + "H", start[2:4])[0] == 43:  # BigTIFF
        offset, = struct.unpack(order + "Q", start[8:16])
        number, entry, inside = "Q", "HHQ8s", 8
    else:
        offset, = struct.unpack(order + "I", start[4:8])
        number, entry, inside = "H", "HHI4s", 4
    if offset >= length:
        return True
    file.seek(offset)
    field = file.read(struct.calcsize(order + number))
    if len(field) < struct.calcsize(order + number):
        return True
    size = struct.calcsize(order + entry)
    table = file.read(min(struct.unpack(order + number, field)[0] * size, length))
    table = table[:len(table) // size * size]
    values = (count * WIDTHS.get(kind, 0) for _, kind, count, _ in struct.iter_unpack(order + entry, table))
    # The reader skips values that are larger than the file. A few small ones may share their bytes.
    return sum(size for size in values if inside < size <= length) <= 2 * length


def objection(file: BinaryIO, length: int) -> str | None:
    """The reason why Pillow must not even open ``file``, or None. Moves the file's position."""
    start = file.read(12)
    file.seek(0)
    if start.startswith(b"\xff\xd8"):
        segments = itertools.takewhile(lambda segment: segment[0] != 0xDA, _jpeg_segments(file.read()))
        exif = (content[6:] for marker, content in segments if marker == 0xE1 and content.startswith(b"Exif\0\0"))
        fits = exif_fits(b"".join(exif))  # Pillow joins them as well
    elif start[4:8] == b"ftyp":
        fits = _embedded_exif_fits(file.read())
    else:
        fits = _directory_fits(file, length)
    return None if fits else "its directory of tags promises more than the file holds"


def _embedded_exif_fits(data: bytes) -> bool:
    """Whether whatever looks like EXIF data in an AVIF or HEIC file can hold what its directory promises."""
    starts = [found.start() for found in itertools.islice(_TIFF_START.finditer(data), _MOST_STARTS + 1)]
    # By chance, compressed pixels look like a beginning once in two gigabytes.
    return len(starts) <= _MOST_STARTS and all(exif_fits(data[start:]) for start in starts)


def too_many_scans(file: BinaryIO) -> str | None:
    """The reason why a JPEG must not be decoded, or None. Moves the file's position."""
    scans = sum(marker == 0xDA for marker, _ in _jpeg_segments(file.read()))
    return f"it has {scans} scans, at most {_MOST_SCANS} make sense" if scans > _MOST_SCANS else None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment, from the third byte to the end of the picture."""
    place = 0
    # Pixels lie between segments; the byte 0xff within them is followed by one that the expression leaves out.
    while found := _JPEG_MARKER.search(data, place):
        marker, place = data[found.end() - 1], found.end()
        if marker == 0xD9 or place + 2 > len(data):
            return
        size, = struct.unpack_from(">H", data, place)
        yield marker, data[place + 2:place + size]
        place += size


def exif_fits(exif: bytes) -> bool:
    """Whether EXIF data, with or without its ``Exif`` mark, can hold what its directory promises."""
    exif = exif.removeprefix(b"Exif\0\0")
    return _directory_fits(io.BytesIO(exif), len(exif))
