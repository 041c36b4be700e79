"""Image files written in the format that their suffix names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ..errors import ImageError
from ..files import write_atomically
from .embedding import JPEG_DPI, JPEG_EXIF, JPEG_XMP
from .encoders import encode
from .exif import fitted
from .metadata import NO_METADATA, Metadata, is_grey_profile
from .photo import to_8_bits
from .video_stills import avif_is_supported

# By suffix: Pillow's name of the format, and the longest side that it allows.
_FORMATS = {".png": ("PNG", 2**31 - 1), ".webp": ("WEBP", 16_383), ".avif": ("AVIF", 65_536),
            **dict.fromkeys((".jpg", ".jpeg", ".jfif"), ("JPEG", 65_500)),
            **dict.fromkeys((".tif", ".tiff"), ("TIFF", 2**31 - 1))}


def check_writable(path: str | Path, height: int, width: int) -> None:
    """Check that an image of this size can be written to a file of this name.

    Raises:
        ImageError: the suffix is unknown, the format does not go up to this size, or Pillow cannot write it here.
    """
    suffix = _suffix(path)
    if suffix not in _FORMATS:
        raise ImageError(f"{path}: cannot write {suffix or 'a file without suffix'}, expected {', '.join(_FORMATS)}")
    name, longest = _FORMATS[suffix]
    if max(height, width) > longest:
        raise ImageError(f"{path}: {width}x{height} pixels are too large for {name}, which ends at {longest}: use png")
    if name == "AVIF" and not avif_is_supported():
        raise ImageError(f"{path}: writing AVIF needs Pillow 11.3 or later with AVIF: pip install -U pillow")


def _suffix(path: str | Path) -> str:
    """The suffix of a file's name, which may consist of it."""
    return Path(f"x{Path(path).name}").suffix.lower()


def write_image(path: str | Path, rgb: np.ndarray, alpha: np.ndarray | None = None, *, grey: bool = False,
                icc_profile: bytes | None = None, metadata: Metadata = NO_METADATA,
                quality: int = 95) -> tuple[str, ...]:
    """Write an image as its suffix says (png, jpg, webp, avif, tif): the whole file or none.

    Arguments, notes and errors are those of ``encode_image``.

    Returns:
        What was lost, one sentence each, for the user.

    Raises:
        ImageError: also if the file cannot be written.
    """
    data, notes = encode_image(path, rgb, alpha, grey=grey, icc_profile=icc_profile, metadata=metadata,
                               quality=quality)
    try:
        write_atomically(path, data)
    except OSError as error:
        raise _unwritable(path, error) from error
    return notes


def encode_image(path: str | Path, rgb: np.ndarray, alpha: np.ndarray | None = None, *, grey: bool = False,
                 icc_profile: bytes | None = None, metadata: Metadata = NO_METADATA,
                 quality: int = 95) -> tuple[bytes, tuple[str, ...]]:
    """Encode an image in the format of a suffix.

    PNG and TIFF keep 16 bits and are lossless; JPEG, WebP and AVIF take 8 bits; JPEG knows no alpha and shows the
    image on white.

    Args:
        path: the name of a file, for its suffix and for errors, or a suffix.
        rgb: HxWx3, or HxW for grey; uint8 or uint16.
        alpha: HxW of the same type.
        grey: write the brightness of ``rgb`` as a grey image (where that is possible: not as WebP and AVIF, and
            not 16-bit grey with alpha).
        icc_profile: colour profile to embed.
        metadata: EXIF data, XMP and resolution to embed; the image's size is corrected in it.
        quality: of JPEG, WebP and AVIF, 1 to 100.

    Returns:
        The file's bytes, and what was lost, one sentence each, for the user.

    Raises:
        ImageError: the image or the suffix is not one of these, or the image cannot be encoded.
    """
    _check_pixels(rgb, alpha)
    check_writable(path, *rgb.shape[:2])
    format_name = _FORMATS[_suffix(path)][0]
    notes = []
    if format_name not in ("PNG", "TIFF") and rgb.dtype == np.uint16:
        rgb, alpha = to_8_bits(rgb), None if alpha is None else to_8_bits(alpha)
        notes.append(f"{format_name} holds 8 bits: reduced from 16")
    if format_name == "JPEG" and alpha is not None:
        rgb, alpha = _on_white(rgb, alpha), None
        notes.append("JPEG holds no transparency: put on white")
    if grey and rgb.ndim == 3:
        rgb = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY)
    pixels = _joined_channels(rgb, alpha, keeps_grey=_keeps_grey(format_name, rgb.dtype, alpha))
    if icc_profile and pixels.shape[2] >= 3 and is_grey_profile(icc_profile):
        icc_profile = None
        notes.append(f"{format_name} holds this grey image as RGB: its grey colour profile is left out")
    try:
        metadata = metadata.for_image(*pixels.shape[:2])
        if format_name == "JPEG":
            metadata, lost = _for_jpeg(metadata)
            notes += lost
        return encode(pixels, format_name, icc_profile, quality, metadata), tuple(notes)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error) from error


def _unwritable(path: str | Path, error: Exception) -> ImageError:
    return ImageError(f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}")


def _for_jpeg(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """The part of ``metadata`` that fits into a JPEG, and what does not, one sentence each."""
    notes = []
    if metadata.exif and len(metadata.exif) > JPEG_EXIF:
        exif, dropped = fitted(metadata.exif, JPEG_EXIF)
        metadata = replace(metadata, exif=exif)
        notes.append(f"JPEG holds {JPEG_EXIF} bytes of EXIF data: its {dropped} largest values are left out")
    if metadata.xmp and len(metadata.xmp) > JPEG_XMP:
        metadata = replace(metadata, xmp=None)
        notes.append(f"JPEG holds {JPEG_XMP} bytes of XMP: it is left out")
    if metadata.dpi and max(metadata.dpi) > JPEG_DPI:
        metadata = replace(metadata, dpi=None)
        notes.append(f"JPEG holds up to {JPEG_DPI} pixels per inch: its resolution is left out")
    return metadata, notes


def _check_pixels(rgb: np.ndarray, alpha: np.ndarray | None) -> None:
    if rgb.dtype not in (np.uint8, np.uint16) or not (rgb.ndim == 2 or (rgb.ndim == 3 and rgb.shape[2] == 3)) \
            or 0 in rgb.shape:
        raise ImageError(f"image has shape {rgb.shape} and type {rgb.dtype}, "
                         "expected HxWx3 or HxW, uint8 or uint16, not empty")
    if alpha is not None and (alpha.shape != rgb.shape[:2] or alpha.dtype != rgb.dtype):
        raise ImageError(f"alpha has shape {alpha.shape} and type {alpha.dtype}, "
                         f"expected {rgb.shape[:2]} and {rgb.dtype} like the image")


def _on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The 8-bit image over a white ground."""
    cover = (alpha if rgb.ndim == 2 else alpha[..., None]).astype(np.float32) / 255
    return np.rint(rgb * cover + 255 * (1 - cover)).astype(np.uint8)


def _keeps_grey(format_name: str, dtype: np.dtype, alpha: np.ndarray | None) -> bool:
    """Whether the format can hold one channel of colour; WebP cannot, and Pillow writes none as AVIF."""
    # OpenCV cannot write 16-bit grey with alpha as PNG, and Pillow cannot open it as TIFF.
    return format_name not in ("WEBP", "AVIF") and not (dtype == np.uint16 and alpha is not None)


def _joined_channels(rgb: np.ndarray, alpha: np.ndarray | None, *, keeps_grey: bool) -> np.ndarray:
    """Colours and alpha as (H, W, C); grey is one channel if ``keeps_grey``, else three."""
    planes = [rgb] if rgb.ndim == 3 else [rgb[..., None]] * (1 if keeps_grey else 3)
    if alpha is not None:
        planes.append(alpha[..., None])
    return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2)
