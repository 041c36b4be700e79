"""Image files opened by their header, which is checked before any pixel is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Literal, Protocol

from PIL import Image, ImageFile

from ..errors import ImageError
from ..runtime.silence import Silence, Undo
from .codec_noise import quiet_codecs
from .limits import can_hold, objection, too_many_scans
from .video_stills import open_video_still

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


class Source(Protocol):
    """An image file: a path, or bytes in memory. As a string it is its name, for errors."""

    def open(self, mode: Literal["rb"]) -> BinaryIO: ...


@contextmanager
def checked_header(source: Source, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """Open an image whose header is credible; it is not decoded yet, and no decoder prints meanwhile.

    Raises:
        ImageError: it is empty, has more than ``max_pixels``, or promises more than the file can hold.
    """
    with quiet_codecs(), open_header(source) as image:
        width, height = image.size
        if 0 in image.size:
            raise ImageError(f"{source}: an image of {width}x{height} pixels is empty")
        if width * height > max_pixels:
            raise ImageError(f"{source}: {width}x{height} pixels are more than the limit of "
                             f"{max_pixels / 1e6:g} million: crop or shrink it")
        with source.open("rb") as file:
            if not can_hold(image, file, length := _length(file)):
                raise ImageError(f"{source}: {width}x{height} pixels cannot be in a file of {length} bytes: "
                                 "it is damaged or truncated")
            file.seek(0)
            if image.format in ("JPEG", "MPO") and (reason := too_many_scans(file)):
                raise ImageError(f"{source}: cannot be decoded: {reason}")
        yield image


@contextmanager
def open_header(source: Source) -> Iterator[ImageFile.ImageFile]:
    """Let Pillow read the header, if nothing speaks against it.

    Raises:
        ImageError: reading the header alone would take too long, or too much memory.
    """
    # An open file rather than its path: files that Pillow (13) opens itself it maps into memory, and then garbles
    # uncompressed TIFFs that must be turned.
    with source.open("rb") as file:
        if reason := objection(file, _length(file)):
            raise ImageError(f"{source}: cannot be decoded: {reason}")
        file.seek(0)
        # Pillow's own limit on pixels is below ours and global; only Image.open reads it.
        with _without_pillows_limit:
            image = open_video_still(file, str(source)) or Image.open(file, formats=FORMATS)
        with image:
            yield image


def _length(file: BinaryIO) -> int:
    """The file's length in bytes; the file is at its beginning afterwards."""
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    return length


@contextmanager
def decoding_errors(source: Source) -> Iterator[None]:
    """Turn whatever a decoder raises into an ``ImageError`` that names ``source`` and is one line."""
    try:
        yield
    except ImageError:
        raise
    except Image.UnidentifiedImageError as error:
        raise ImageError(f"{source}: not a readable PNG, JPEG, WebP, AVIF, HEIC, BMP or TIFF image of 8 or "
                         "16 bits") from error
    # Decoders of broken files raise nearly anything: OSError, SyntaxError, struct.error, EOFError …
    except Exception as error:
        raise ImageError(f"{source}: cannot be decoded: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """The part of a decoder's error that tells a user something, on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return "not enough memory"
    # Errors of other types are slips over damaged headers, whose text is about Pillow's code.
    if isinstance(error, (OSError, SyntaxError, ValueError)) and text.isprintable() and " " in text \
            and not text.startswith("decoder error"):
        return text[:200]
    return "it is damaged"


def _lift_pillows_limit() -> Undo:
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    return lambda: setattr(Image, "MAX_IMAGE_PIXELS", before)


_without_pillows_limit = Silence(_lift_pillows_limit)
