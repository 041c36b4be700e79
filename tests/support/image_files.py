"""Pixels and image files for tests."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def noise(*shape: int, dtype=np.uint8) -> np.ndarray:
    """Random pixels over the whole range of an unsigned type; the same every time."""
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    """Write ``pixels``, converted to Pillow's ``mode``, with Pillow; returns ``path``."""
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def png_chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
