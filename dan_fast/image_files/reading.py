"""Image files read: from a path or from memory."""

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


class ImageBytes:
    """An image file in memory, which is read as the same file would be.

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


def read_image(source: str | Path | ImageBytes, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode a PNG, JPEG, WebP, AVIF, HEIC, BMP or TIFF of 8 or 16 bits per channel.

    AVIF and HEIC of 10 or 12 bits become 8 bits; HEIC needs the extra ``heic``.

    Raises:
        ImageError: the file is missing, not such an image, broken, of another depth, or larger than ``max_pixels``
            (known from its header, before anything is decoded).
    """
    if not isinstance(source, ImageBytes):
        source = Path(source)
        if not source.is_file():
            raise ImageError(f"{source}: {'not a file' if source.exists() else 'no such file'}")
    with decoding_errors(source), checked_header(source, max_pixels) as image:
        return decode(source, image)


class JpegBytes(ImageBytes):
    """A JPEG in memory; no other format is read."""

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
