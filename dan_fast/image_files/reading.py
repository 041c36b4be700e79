"""Image files read: from a path, or a JPEG from memory."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import ImageFile

from ..errors import ImageError
from .decoding import decode
from .opening import checked_header, decoding_errors
from .photo import Photo

MAX_PIXELS = 200_000_000


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode a PNG, JPEG, WebP, BMP or TIFF of 8 or 16 bits per channel.

    Raises:
        ImageError: the file is missing, not such an image, broken, of another depth, or larger than ``max_pixels``
            (known from its header, before anything is decoded).
    """
    path = Path(path)
    if not path.is_file():
        raise ImageError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    with decoding_errors(path), checked_header(path, max_pixels) as image:
        return decode(path, image)


class JpegBytes:
    """A JPEG in memory, which is read as the same file would be.

    Args:
        data: the file's bytes.
        name: its name in errors.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name = data, name

    def __str__(self) -> str:
        return self._name

    def open(self, mode: str) -> BinaryIO:
        return io.BytesIO(self._data)

    def size(self, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
        """Height and width as stored, from the header. Raises ImageError as ``read_image``."""
        with self._opened(max_pixels) as image:
            return image.height, image.width

    def read(self, *, max_pixels: int = MAX_PIXELS) -> Photo:
        """Decode it. Raises ImageError as ``read_image``."""
        with self._opened(max_pixels) as image:
            return decode(self, image)

    @contextmanager
    def _opened(self, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
        with decoding_errors(self):
            if not self._data.startswith(b"\xff\xd8\xff"):
                raise ImageError(f"{self}: expected a JPEG")
            with checked_header(self, max_pixels) as image:
                yield image
