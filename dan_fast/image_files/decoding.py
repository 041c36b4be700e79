"""Pixels of an opened image file as a ``Photo``."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFile

from ..errors import ImageError
from .metadata import exif_orientation, icc_profile, read_metadata, upright
from .opening import Source
from .photo import Photo
from .sixteen_bits import decode_png, decode_tiff
from .video_stills import stored_samples

_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
_EXTRA_SAMPLES = 338
_MOST_FRAMES = 100  # that are counted
_BAND = 256  # rows that are converted at once


def decode(source: Source, image: ImageFile.ImageFile) -> Photo:
    """Decode ``image``, which was opened from ``source``.

    Raises:
        ImageError: its samples are not whole numbers of 8 or 16 bits, or it is a 16-bit image of a kind that cannot
            be read.
        Exception: of any type if the file is broken.
    """
    notes = []
    bits = _bits(image)
    # "I" is 32 bits, but also what Pillow before 12 makes of 16-bit grey PNGs.
    if bits not in (8, 16) or image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise ImageError(f"{source}: its samples are not whole numbers of 8 or 16 bits: convert it")
    # An MPO's further pictures are other views and gain maps, which nobody misses. In HEIC the first is the main one.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        notes.append(f"only the first of {_frames(image)} frames is used")
    profile = icc_profile(image)
    if image.mode == "CMYK":
        notes.append("CMYK converted to RGB" + (" without its colour profile" if profile else ""))
        profile = None
    # Pillow opens a PNG of 16-bit grey + alpha as RGBA; only the raw mode tells.
    grey = image.mode in _GREY_MODES or (bits == 16 and "LA;16B" in _raw_mode(image))
    if image.format in ("AVIF", "HEIF"):
        with source.open("rb") as file:
            stored, grey = stored_samples(file)
        if stored > 8:
            notes.append(f"its {stored} bits per channel are read as 8")
    if image.mode == "RGB" and 0 in getattr(image, "tag_v2", {}).get(_EXTRA_SAMPLES, ()):
        notes.append("a channel of unspecified meaning is left out")
    rgb, alpha = _decode_16_bits(source, image) if bits == 16 else _decode_8_bits(image)
    metadata, lost = read_metadata(source, image)
    return Photo(rgb, alpha, grey, profile, (*notes, *lost), metadata)


def _bits(image: ImageFile.ImageFile) -> int:
    """Bits per sample in the file. Pillow's mode does not tell: it reads 16-bit colour as 8-bit."""
    if image.format == "PNG":
        return 16 if "16" in _raw_mode(image) else 8
    if image.format == "TIFF":
        return max(8, *getattr(image, "tag_v2", {}).get(258, (1,)))
    return 8


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's name of how a pixel lies in the file, such as "RGB;16B"."""
    return str(image.tile[0][3]) if image.tile else ""


def _frames(image: ImageFile.ImageFile) -> str:
    """The number of frames, in words, as far as counting is quick: Pillow's time grows with a TIFF's frames squared."""
    if image.format == "TIFF":
        try:
            for frame in range(1, _MOST_FRAMES + 1):  # all at once, Pillow counts wrongly
                image.seek(frame)
            return f"more than {_MOST_FRAMES}"
        except EOFError:
            pass
        except Exception:  # a later frame is broken, which does not matter for the first
            return "several"
        finally:
            image.seek(0)
    return str(getattr(image, "n_frames", "many"))


def _decode_8_bits(image: ImageFile.ImageFile) -> tuple[np.ndarray, np.ndarray | None]:
    """RGB (H, W, 3) and alpha (H, W) or None."""
    image.load()  # Pillow turns a TIFF upright now, and forgets its orientation
    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or image.has_transparency_data
    pixels = upright(_to_array(image, "RGBA" if has_alpha else "RGB"), exif_orientation(image))
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3]) if has_alpha else None


def _to_array(image: Image.Image, mode: str) -> np.ndarray:
    """The image converted to ``mode``, (H, W, C) uint8; by bands, as Pillow makes several copies while it converts."""
    pixels = np.empty((image.height, image.width, len(mode)), np.uint8)
    for top in range(0, image.height, _BAND):
        band = image.crop((0, top, image.width, min(top + _BAND, image.height)))
        pixels[top:top + _BAND] = np.asarray(band if band.mode == mode else band.convert(mode))
    return pixels


def _decode_16_bits(source: Source, image: ImageFile.ImageFile) -> tuple[np.ndarray, np.ndarray | None]:
    """RGB (H, W, 3) and alpha (H, W) or None."""
    if image.format == "PNG":
        image.load()  # reads the metadata that comes after the pixels
        pixels = upright(decode_png(source), exif_orientation(image))
    else:
        size, decoded = image.size, decode_tiff(source, image)
        if decoded is None or sorted(decoded.shape[:2]) != sorted(size):
            raise ImageError(f"{source}: a 16-bit image of an unsupported kind: convert it to 16-bit RGB PNG")
        pixels = decoded
    colours = pixels[..., :1] if pixels.shape[2] < 3 else pixels[..., :3]
    rgb = np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))
    return rgb, np.ascontiguousarray(pixels[..., -1]) if pixels.shape[2] in (2, 4) else None
