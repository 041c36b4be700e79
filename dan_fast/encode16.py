"""16-bit PNG and TIFF encoders.

Pillow writes no 16-bit colour; OpenCV neither embeds colour profiles nor writes grey + alpha.
Both formats need little: a header, the profile and zlib-compressed rows.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

_ROWS = 64  # rows handled at once: the filtered copy stays small


def encode_png16(pixels: np.ndarray, icc_profile: bytes | None = None) -> bytes:
    """``pixels`` HxWxC uint16 (C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha) as a PNG file."""
    height, width, channels = pixels.shape
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, (0, 4, 2, 6)[channels - 1], 0, 0, 0))]
    if icc_profile:
        chunks.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile)))
    deflate = zlib.compressobj()
    for top in range(0, height, _ROWS):
        rows = np.ascontiguousarray(pixels[top:top + _ROWS], dtype=">u2").view(np.uint8)
        rows = rows.reshape(len(rows), width, 2 * channels)
        # Filter 1 ("Sub"): every byte less the same byte of the pixel to its left.
        filtered = np.ones((len(rows), 1 + rows[0].size), np.uint8)
        filtered[:, 1:] = _less_left(rows).reshape(len(rows), -1)
        chunks.append(_chunk(b"IDAT", deflate.compress(filtered.tobytes())))
    chunks += [_chunk(b"IDAT", deflate.flush()), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def encode_tiff16(pixels: np.ndarray, icc_profile: bytes | None = None) -> bytes:
    """``pixels`` HxWxC uint16 (channels as in :func:`encode_png16`) as a TIFF file.

    Raises:
        ValueError: the file would pass 4 GB, the most that TIFF can address.
    """
    height, width, channels = pixels.shape
    strips = [zlib.compress(_less_left(pixels[top:top + _ROWS]).astype("<u2").tobytes())
              for top in range(0, height, _ROWS)]
    sizes = [len(strip) for strip in strips]
    offsets = (8 + np.cumsum([0, *sizes[:-1]])).tolist()
    short, long, undefined = "H", "I", "B"
    tags = [
        (256, long, [width]), (257, long, [height]), (258, short, [16] * channels),
        (259, short, [8]),  # Adobe deflate
        (262, short, [1 if channels < 3 else 2]),  # black is zero, or RGB
        (273, long, offsets), (277, short, [channels]), (278, long, [_ROWS]), (279, long, sizes),
        (284, short, [1]), (317, short, [2]),  # interleaved; horizontal differences
    ]
    if channels in (2, 4):
        tags.append((338, short, [2]))  # the extra sample is unassociated alpha
    tags.append((339, short, [1] * channels))
    if icc_profile:
        tags.append((34675, undefined, list(icc_profile)))
    start = 8 + sum(sizes)
    start += start % 2
    body = b"".join(strips).ljust(start - 8, b"\0")
    if start + 2 * len(icc_profile or b"") + 16 * len(strips) >= 2**32:
        raise ValueError("a TIFF file cannot pass 4 GB")
    return struct.pack("<2sHI", b"II", 42, start) + body + _directory(tags, start)


def _directory(tags: list[tuple[int, str, list[int]]], start: int) -> bytes:
    """The TIFF directory that begins at byte ``start``, with the values that do not fit into it."""
    codes = {"B": 7, "H": 3, "I": 4}
    entries, beyond = b"", b""
    free = start + 2 + 12 * len(tags) + 4
    for tag, kind, values in tags:
        data = struct.pack(f"<{len(values)}{kind}", *values)
        if len(data) > 4:
            data, beyond = struct.pack("<I", free + len(beyond)), beyond + data + b"\0" * (len(data) % 2)
        entries += struct.pack("<HHI", tag, codes[kind], len(values)) + data.ljust(4, b"\0")
    return struct.pack("<H", len(tags)) + entries + b"\0" * 4 + beyond


def _less_left(rows: np.ndarray) -> np.ndarray:
    """Every sample less the one of the pixel to its left, wrapping around; the first column as it is."""
    return np.concatenate((rows[:, :1], rows[:, 1:] - rows[:, :-1]), axis=1)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
