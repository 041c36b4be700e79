"""``dan-fast pack`` packs images into one file for training."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from ..errors import DanFastError, printable
from ..evaluation.degraded_set import images_below
from ..training.jpeg_pack import write_jpeg_pack
from ..training.pack import write_pack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, nargs="+", metavar="DIR", help="images or folders, searched recursively")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE",
                        help="the packed file, for --data of train: a .tif, an uncompressed BigTIFF, about twice as "
                        "large as PNGs; with --jpeg, a .zip; an existing file is replaced when the new one is complete")
    parser.add_argument("--jpeg", type=int, metavar="QUALITY", help="pack JPEGs of this quality, 1 to 100, in a zip, "
                        "which is small to send; training decodes it once, at its start; an image that is a JPEG "
                        "already is packed as it is if that is no larger (default: pack pixels)")
    parser.add_argument("--max-mib", type=float, help="largest size of the packed file; if it would be larger, write "
                        "nothing and say what would fit (default: no limit)")


def run(args: argparse.Namespace) -> int:
    skipped: list[str] = []
    if args.max_mib is not None and not 0 < args.max_mib < 2**40:
        raise DanFastError(f"--max-mib {args.max_mib:g}: expected a positive number")
    most = None if args.max_mib is None else int(args.max_mib * 2**20)
    images = tqdm(images_below(args.data), "pack", unit="image")
    if args.jpeg is None:
        count = write_pack(images, args.out, skipped.append, most_bytes=most)
    else:
        count = write_jpeg_pack(images, args.out, args.jpeg, skipped.append, most_bytes=most)
    for reason in skipped:
        print(printable(f"skipped: {reason}"), file=sys.stderr)
    print(f"{count} images, {args.out.stat().st_size / 2**20:.0f} MiB: {args.out}")
    return 1 if skipped else 0
