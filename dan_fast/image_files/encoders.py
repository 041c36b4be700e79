"""Pixels encoded as the bytes of an image file."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image

from .embedding import with_chunks, with_segments
from .exif import embed_in_tiff, order_of, with_resolution, without_orientation
from .metadata import NO_METADATA, Metadata


def encode(pixels: np.ndarray, format_name: str, icc_profile: bytes | None, quality: int,
           metadata: Metadata = NO_METADATA) -> bytes:
    """Encode ``pixels`` as a file of ``format_name``, Pillow's name of it.

    Args:
        pixels: (H, W, C), uint8 or, for PNG and TIFF, uint16; C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        icc_profile: colour profile to embed.
        quality: of JPEG, WebP and AVIF, 1 to 100.
        metadata: to embed as it is; its EXIF data and XMP fit into the segments of a JPEG.
    """
    exif, xmp, dpi = metadata.exif, metadata.xmp, metadata.dpi
    if format_name == "PNG":
        return with_chunks(_encode_png(pixels), exif, xmp, dpi, icc_profile)
    # These have no other place for the resolution.
    if dpi and format_name in ("TIFF", "WEBP", "AVIF"):
        exif = with_resolution(exif, dpi)
    if format_name == "TIFF":
        return _encode_tiff(pixels, icc_profile, exif, xmp)
    options: dict[str, Any] = {"quality": quality}
    if icc_profile:
        options["icc_profile"] = icc_profile
    if format_name == "JPEG":
        # Colour subsampling would halve the colours' resolution, which was just restored.
        options["subsampling"] = 0
        if dpi:
            options["dpi"] = dpi
        return with_segments(_encode_with_pillow(pixels, format_name, **options), exif, xmp)
    if format_name == "AVIF":
        options["subsampling"] = "4:4:4"
        exif = without_orientation(exif)  # with it, Pillow would write the data anew, in its own types
    options.update({name: data for name, data in (("exif", exif), ("xmp", xmp)) if data})
    return _encode_with_pillow(pixels, format_name, **options)


def _encode_with_pillow(pixels: np.ndarray, format_name: str, **options: Any) -> bytes:
    mode = ("L", "LA", "RGB", "RGBA")[pixels.shape[2] - 1]
    image = Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if mode == "L" else pixels))
    assert image.mode == mode
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


def _encode_png(pixels: np.ndarray) -> bytes:
    if pixels.dtype == np.uint8:
        return _encode_with_pillow(pixels, "PNG")
    # Pillow writes no colour images of 16 bits.
    bgr = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]] if pixels.shape[2] >= 3 else pixels
    return cv2.imencode(".png", bgr)[1].tobytes()


def _encode_tiff(pixels: np.ndarray, icc_profile: bytes | None, exif: bytes | None, xmp: bytes | None) -> bytes:
    buffer, channels = io.BytesIO(), pixels.shape[2]
    tifffile.imwrite(buffer, pixels[..., 0] if channels == 1 else pixels,
                     photometric="minisblack" if channels < 3 else "rgb",
                     planarconfig=None if channels == 1 else "contig",
                     extrasamples=["unassalpha"] if channels in (2, 4) else None, metadata=None, compression="zlib",
                     predictor=True, iccprofile=icc_profile, byteorder=order_of(exif))
    embed_in_tiff(buffer, exif, xmp)
    return buffer.getvalue()
