"""``dan-fast pack``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from ..degraded_set import images_below
from ..training.pack import write_pack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, nargs="+", metavar="DIR", help="images or folders, searched recursively")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE.tif",
                        help="the packed file, for --data of train: an uncompressed BigTIFF, about twice as large as "
                        "PNGs; an existing one is replaced once the new one is whole")


def run(args: argparse.Namespace) -> int:
    skipped: list[str] = []
    images = images_below(args.data)
    count = write_pack(tqdm(images, "pack", unit="image"), args.out, skipped.append)
    for reason in skipped:
        print(f"skipped: {reason}", file=sys.stderr)
    print(f"{count} images, {args.out.stat().st_size / 2**20:.0f} MiB: {args.out}")
    return 1 if skipped else 0
