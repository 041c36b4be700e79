"""A decoded image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .metadata import NO_METADATA, Metadata
from .transparency import extend_colours


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded image, upright (the EXIF orientation is applied).

    Attributes:
        rgb: HxWx3, uint8 or uint16, contiguous; a grey file's three channels are equal.
        alpha: HxW of the same type, or None.
        grey: the file held grey values.
        icc_profile: the file's colour profile, or None.
        notes: what the user should know of the decoding, one sentence each.
        metadata: the file's EXIF data, XMP and resolution, for an upright image.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None = None
    grey: bool = False
    icc_profile: bytes | None = None
    notes: tuple[str, ...] = ()
    metadata: Metadata = NO_METADATA

    @property
    def pixels(self) -> np.ndarray:
        """The file's values: HxW if it is grey, else ``rgb``."""
        return self.rgb[..., 0] if self.grey else self.rgb

    def visible(self) -> Photo:
        """This photo as a network may see it: visible colours extended over what is transparent."""
        return self if self.alpha is None else replace(self, rgb=extend_colours(self.rgb, self.alpha))


def to_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Reduce uint16 to uint8, rounded to nearest (65535 = 257 * 255); uint8 stays as it is."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
