"""Sizes that a user asks for, ``--size``, ``--long-side`` and ``--outscale``, and the size that a photo gets."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass

from ..errors import ImageError
from ..image_files.reading import MAX_PIXELS
from .arguments import Options

LARGEST = 1_000_000  # pixels of a side
MOST_PIXELS = 16 * MAX_PIXELS  # of a result: as many as the largest photo has at x4
_SIZE = re.compile(r"(\d*)x(\d*)")


@dataclass(frozen=True)
class WantedSize:
    """A size as the user asked for it; the proportions of the photo are kept.

    Attributes:
        name: the user's words, for file names and messages.
        width: at most this many pixels wide.
        height: at most this many pixels high.
        long_side: pixels of the longer side.
        factor: pixels of the result for each pixel of the photo.
    """

    name: str
    width: int | None = None
    height: int | None = None
    long_side: int | None = None
    factor: float | None = None

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a photo of ``height`` by ``width`` pixels gets.

        Raises:
            ImageError: the result would be smaller than the photo, or larger than any at x4.
        """
        if self.factor is not None:
            factor = self.factor
        elif self.long_side is not None:
            factor = self.long_side / max(height, width)
        else:
            factor = min(limit / side for limit, side in ((self.width, width), (self.height, height)) if limit)
        if factor < 1:
            raise ImageError(f"the photo has {width}x{height} pixels, more than {self.name} asks for: "
                             "dan-fast only enlarges; leave it out or ask for more")
        size = max(height, math.floor(height * factor + 0.5)), max(width, math.floor(width * factor + 0.5))
        if math.prod(size) > MOST_PIXELS:
            raise ImageError(f"{self.name} would make {size[1]}x{size[0]} pixels of it, more than the limit of "
                             f"{MOST_PIXELS / 1e6:g} million: ask for less")
        return size


def size(text: str) -> WantedSize:
    """The ``type=`` of ``--size``: ``3840x`` (a width), ``x2160`` (a height) or ``3840x2160`` (both are limits)."""
    match = _SIZE.fullmatch(text)
    sides = [int(side) if side else None for side in match.groups()] if match else []
    if not any(side is not None for side in sides) or any(side is not None and not 1 <= side <= LARGEST
                                                           for side in sides):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a width, 3840x, a height, x2160, or both, 3840x2160, "
                                         f"1 to {LARGEST:,} pixels")
    return WantedSize(text, width=sides[0], height=sides[1])


def long_side(text: str) -> WantedSize:
    """The ``type=`` of ``--long-side``: the pixels of the longer side."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of pixels, 1 to {LARGEST:,}")
    return WantedSize(text, long_side=int(text))


def outscale(text: str) -> WantedSize:
    """The ``type=`` of ``--outscale``: any factor from 1 to 100."""
    try:
        factor = float(text.removeprefix("x"))
    except ValueError:
        factor = math.nan
    if not 1 <= factor <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a factor from 1 to 100, for example 2.5")
    return WantedSize(f"x{factor:g}", factor=factor)


def add_size_arguments(parser: Options) -> None:
    """Add ``--size``, ``--long-side`` and ``--outscale``, of which one may be given."""
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--size", type=size, metavar="WxH",
                       help="size of the results: 3840x (width), x2160 (height), or 3840x2160 (fits into both); the "
                       "smallest scale that ships and reaches it, then antialiased bicubic (default: the scale of the "
                       "weights)")
    sizes.add_argument("--long-side", type=long_side, metavar="N",
                       help="pixels of the results' longer side (default: as --size)")
    sizes.add_argument("--outscale", type=outscale, metavar="X",
                       help="pixels of the results per pixel of the photos, for example 2.5 (default: as --size)")


def wanted_size(args: argparse.Namespace) -> WantedSize | None:
    """The size that the arguments ask for; None: none."""
    return args.size or args.long_side or args.outscale
