"""``dan-fast draw`` makes synthetic drawings, to train on beside photos."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from ..command_line.arguments import whole_number
from ..files import make_folder
from ..image_files import write_image
from ..training.drawings import SMALLEST, drawing

LARGEST = 4096  # side in pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR",
                        help="folder for the drawings, drawing-SEED.png; those of the same seeds are replaced")
    parser.add_argument("--count", type=whole_number(1), default=100, metavar="N", help="number of drawings")
    parser.add_argument("--side", type=whole_number(SMALLEST, LARGEST), default=512, metavar="PIXELS",
                        help="their height and width")
    parser.add_argument("--seed", type=whole_number(0, 2**32 - 1), default=0,
                        help="seed of the first; each further one has the next")


def run(args: argparse.Namespace) -> int:
    make_folder(args.out)
    for seed in tqdm(range(args.seed, args.seed + args.count), unit="drawing"):
        write_image(args.out / f"drawing-{seed:06d}.png", drawing(seed, args.side, args.side))
    return 0
