"""Pixels encoded as the bytes of an image file."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image


def encode(pixels: np.ndarray, format_name: str, icc_profile: bytes | None, quality: int) -> bytes:
    """Encode ``pixels`` as a file of ``format_name``, Pillow's name of it.

    Args:
        pixels: (H, W, C), uint8 or, for PNG and TIFF, uint16; C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        icc_profile: colour profile to embed.
        quality: of JPEG and WebP, 1 to 100.
    """
    if pixels.dtype == np.uint16:
        return (_encode_png16 if format_name == "PNG" else _encode_tiff16)(pixels, icc_profile)
    formats: dict[str, dict[str, Any]] = {
        "PNG": {},
        # Colour subsampling would halve the colours' resolution, which was just restored.
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality},
        "TIFF": {"compression": "tiff_adobe_deflate"},
    }
    options = formats[format_name]
    if icc_profile:
        options["icc_profile"] = icc_profile
    mode = ("L", "LA", "RGB", "RGBA")[pixels.shape[2] - 1]
    image = Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if mode == "L" else pixels))
    assert image.mode == mode
    buffer = io.BytesIO()
    image.save(buffer, format_name, **options)
    return buffer.getvalue()


# 16 bits, of which Pillow writes no colour images.


def _encode_png16(pixels: np.ndarray, icc_profile: bytes | None) -> bytes:
    bgr = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]] if pixels.shape[2] >= 3 else pixels
    png = cv2.imencode(".png", bgr)[1].tobytes()
    if not icc_profile:
        return png
    # OpenCV can embed profiles since 4.12, but refuses to write the image if one is not perfect.
    chunk = b"iCCP" + b"ICC profile\0\0" + zlib.compress(icc_profile)
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    header = 8 + 25  # bytes of the signature and the header chunk, which must come first
    return png[:header] + chunk + png[header:]


def _encode_tiff16(pixels: np.ndarray, icc_profile: bytes | None) -> bytes:
    buffer = io.BytesIO()
    grey = pixels.shape[2] == 1
    tifffile.imwrite(buffer, pixels[..., 0] if grey else pixels, photometric="minisblack" if grey else "rgb",
                     extrasamples=["unassalpha"] if pixels.shape[2] == 4 else None,
                     compression="zlib", predictor=True, iccprofile=icc_profile)
    return buffer.getvalue()
