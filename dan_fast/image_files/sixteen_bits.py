"""Pixels of 16-bit files, which Pillow opens but would reduce to 8 bits."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from PIL import ImageFile

from .opening import Source, open_header
from .tiff_tags import Directory, Value, append_tags, read_tags

# Tags of TIFF.
_BITS, _COLOURS, _SAMPLES, _PLANES, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 258, 262, 277, 284, 338, 339
_CHUNKS = {273, 279, 324, 325}  # place and length of strips and tiles


def decode_png(source: Source) -> np.ndarray:
    """The pixels of a PNG, (H, W, C) uint16: C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
    # Not with OpenCV, whose libpng prints warnings and errors about the file.
    with open_header(source) as image:
        raw, transparent = str(image.tile[0][3]), image.info.get("transparency")
    if raw.startswith("LA"):
        # Four bytes per pixel: Pillow leaves them as they are if it takes them for any mode of four bytes.
        pixels = _bytes_of(source, "RGBA", "RGBA").view(">u2").astype(np.uint16)
    elif raw.startswith("RGB"):
        mode = raw.partition(";")[0]
        high, low = (_bytes_of(source, mode, f"{mode};16{order}") for order in "BL")
        pixels = high.astype(np.uint16) << 8 | low
    else:
        with open_header(source) as image:
            pixels = np.asarray(image).astype(np.uint16)[..., None]
    if transparent is None or pixels.shape[2] not in (1, 3):
        return pixels
    opaque = (pixels != np.array(transparent)).any(2, keepdims=True)
    return np.concatenate([pixels, opaque * np.uint16(65535)], 2)


def _bytes_of(source: Source, mode: str, raw: str) -> np.ndarray:
    """One byte per sample, (H, W, C) uint8: the file's rows as Pillow unpacks them if it takes them for ``raw``.

    Taken for big-endian a sample's first byte is kept, for little-endian the second.
    """
    with open_header(source) as image:
        codec, box, offset, _ = image.tile[0]
        image._mode = mode
        image.tile = [(codec, box, offset, raw)]  # type: ignore[list-item]
        return np.asarray(image)


def decode_tiff(source: Source, image: ImageFile.ImageFile) -> np.ndarray | None:
    """The pixels of a TIFF as ``decode_png`` gives them, but upright already; None if they cannot be decoded."""
    tags = getattr(image, "tag_v2", {})
    if image.mode not in ("RGB", "RGBA") and not image.mode.startswith("I;16"):
        return None
    # OpenCV fills up a truncated file with grey without a word; Pillow raises an error.
    image.load()
    with source.open("rb") as file:
        data = file.read()
    samples = tags.get(_SAMPLES, 1)
    if samples > 1 and tags.get(_PLANES) == 2:
        # OpenCV takes planes that are stored one after the other for pixels: each is decoded as a grey image.
        planes = [_decode_with_opencv(_plane(data, n, samples)) for n in range(min(samples, 4))]
        if any(plane is None or plane.ndim != 2 for plane in planes):
            return None
        pixels = np.stack([planes[n] for n in [2, 1, 0, 3][:len(planes)]], 2)
    else:
        pixels = _decode_with_opencv(data)
        if pixels is None:
            return None
    # OpenCV does not invert images in which 0 is white.
    if tags.get(_COLOURS) == 0:
        pixels = 65535 - pixels
    if pixels.ndim == 2:
        return pixels[..., None]
    # Where the meaning of the fourth channel is unspecified, Pillow's mode has three.
    pixels = pixels[..., [2, 1, 0, 3][:min(pixels.shape[2], len(image.mode))]]
    return _straight(pixels) if tags.get(_EXTRA_SAMPLES) == (1,) else pixels


def _decode_with_opencv(data: bytes) -> Any:
    """The pixels, uint16, upright; None if OpenCV cannot decode them."""
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # its text is about OpenCV's code
        return None
    return pixels if pixels is not None and pixels.dtype == np.uint16 else None


def _plane(data: bytes, number: int, samples: int) -> bytes:
    """The TIFF file ``data``, of ``samples`` planes, as a grey image of one of them."""
    file = io.BytesIO(data)
    tags = read_tags(file, longest=len(data))
    change: Directory = {_BITS: tags.short(16), _COLOURS: tags.short(1), _SAMPLES: tags.short(1)}
    for tag in _CHUNKS & tags.root.keys():
        value = tags.root[tag]
        if not isinstance(value, Value) or value.number % samples:
            raise ValueError("its planes have different numbers of strips")
        count, size = value.number // samples, len(value.data) // samples
        change[tag] = Value(value.kind, count, value.data[number * size:(number + 1) * size])
    append_tags(file, change, {*change, _PLANES, _EXTRA_SAMPLES, _SAMPLE_FORMAT})
    return file.getvalue()


def _straight(pixels: np.ndarray) -> np.ndarray:
    """Divide the colours of ``pixels`` (H, W, 4), uint16, by their alpha, which they were multiplied with."""
    alpha = pixels[..., 3:].astype(np.uint32)
    colours = (pixels[..., :3] * np.uint32(65535) + alpha // 2) // np.maximum(alpha, 1)
    return np.concatenate([np.minimum(colours, 65535).astype(np.uint16), pixels[..., 3:]], 2)
