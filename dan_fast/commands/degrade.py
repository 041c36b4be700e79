"""``dan-fast degrade`` makes test sets of sharp images."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from tqdm import tqdm

from ..command_line.arguments import whole_number
from ..command_line.kernel_output import write_kernel
from ..command_line.messages import skip_into
from ..config import SCALES
from ..errors import DanFastError
from ..evaluation.degraded_set import PROTOCOLS, DegradedSet, images_below, isotropic, output_name
from ..files import make_folder
from ..image_files import write_image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH",
                        help="sharp images, and folders that are searched for them")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR",
                        help="folder for the results: degraded images in its folder lr, their kernels in kernel")
    parser.add_argument("--scale", type=int, choices=SCALES, default=4, help="factor by which images are shrunk")
    kernels = parser.add_mutually_exclusive_group()
    kernels.add_argument("--protocol", choices=tuple(PROTOCOLS), default="gaussian8",
                         help="gaussian8: 8 isotropic kernels for every image; irregular: one random kernel per image; "
                              "random: one isotropic kernel of random sigma per image")
    kernels.add_argument("--sigma", type=float, help="one isotropic kernel of this standard deviation, HR pixels "
                         "(default: the kernels of --protocol)")
    parser.add_argument("--seed", type=whole_number(0, 2**32 - 1), default=0, help="seed of random kernels and noise")
    parser.add_argument("--noise", type=float, default=0.0,
                        help="standard deviation of Gaussian noise on the degraded images, in 8-bit levels, 0 to 255")
    parser.add_argument("--save-hr", action="store_true",
                        help="also write the sharp images, cut to a multiple of the scale, to the folder hr")


def run(args: argparse.Namespace) -> int:
    degraded = _degraded_set(args)
    make_folder(args.out)
    skipped: list[str] = []

    for case in tqdm(degraded.cases(skip_into(skipped)), total=len(degraded), unit="image"):
        name = output_name(case, degraded.kernels_per_image)
        write_image(args.out / "lr" / f"{name}.png", case.lr)
        write_kernel(args.out / "kernel" / name, case.kernel)
        if args.save_hr and case.kernel_index == 0:
            write_image(args.out / "hr" / f"{output_name(case, 1)}.png", case.hr)
    return 1 if skipped else 0


def _degraded_set(args: argparse.Namespace) -> DegradedSet:
    if args.sigma is not None and not (0 < args.sigma < math.inf):
        raise DanFastError(f"--sigma {args.sigma}: expected a positive number")
    if not 0 <= args.noise < math.inf:
        raise DanFastError(f"--noise {args.noise}: expected 0 or more")
    protocol = PROTOCOLS[args.protocol] if args.sigma is None else isotropic(args.sigma)
    images = images_below(args.paths)
    for path, _ in images:
        for folder in ("lr", "kernel", "hr"):
            if path.resolve().is_relative_to((args.out / folder).resolve()):
                raise DanFastError(f"{path} lies in {args.out / folder}, where results are written: "
                                   "give another folder with -o")
    degraded = DegradedSet("", images, args.scale, protocol, args.seed, args.noise / 255)
    degraded.check_output_names()
    return degraded
