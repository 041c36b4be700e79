"""Command-line options of all commands that run a network, and the upscaler that they describe."""

from __future__ import annotations

import argparse

import torch

from ..checkpoint import load
from ..errors import DanFastError
from ..inference import Upscaler
from ..inference.engine import SMALLEST_TILE
from ..inference.upscaler import BLUR, KERNEL_FROM
from ..runtime.devices import pick_device
from .arguments import Options, add_device_argument, number, or_word, whole_number

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def add_engine_arguments(parser: Options) -> None:
    """Add the options that say how the network is run."""
    parser.add_argument("--iterations", type=or_word("auto", None, whole_number(1)), default="auto", metavar="N",
                        help="how often the network alternates between image and kernel, at most; auto: as the weights "
                        "say, 4 for published ones")
    parser.add_argument("--tolerance", type=number(0), metavar="X",
                        help="stop iterating when the kernel moved by at most X (sum of absolute differences, 0 to 2); "
                        "0.05 saves about a sixth of the time without a loss of PSNR (default: never)")
    parser.add_argument("--kernel-from", choices=KERNEL_FROM, default="image",
                        help="crop: estimate the kernel from the most textured 128x128 pixels only, which is faster "
                        "and on most photos as good")
    parser.add_argument("--tile", type=or_word("auto", None, whole_number(SMALLEST_TILE)), default="auto", metavar="N",
                        help="side of the tiles that large photos are cut into, pixels of the photo; "
                        "auto: as memory allows")
    parser.add_argument("--halo", type=or_word("auto", None, whole_number(0)), default="auto", metavar="N",
                        help="pixels around a tile that the network sees as well; auto: as far as the Restorer sees, "
                        "at most 28: no 8-bit value of the published network with random weights changed by more "
                        "than 1")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="floating-point type to compute in")
    add_device_argument(parser)


def add_ensemble_argument(parser: Options) -> None:
    """Add ``--ensemble``."""
    parser.add_argument("--ensemble", action="store_true",
                        help="return the mean over the image turned and mirrored in eight ways: better, and takes "
                        "eight times as long")


def refuse_engine_options(args: argparse.Namespace, reason: str) -> None:
    """Raise ``DanFastError`` if one of the options above is given, which only say how a network is run."""
    parser = argparse.ArgumentParser()
    add_engine_arguments(parser)
    add_ensemble_argument(parser)
    for name, default in vars(parser.parse_args([])).items():
        if getattr(args, name) != default:
            raise DanFastError(f"--{name.replace('_', '-')} is for a network, {reason}: leave it out")


def add_dial_arguments(parser: Options) -> None:
    """Add ``--strength`` and ``--blur``."""
    parser.add_argument("--strength", type=number(0, 1), default=1.0, metavar="X",
                        help="1: the network's result, 0: bicubic; a blend between them")
    parser.add_argument("--blur", type=number(*BLUR, unit="x"), default=1.0, metavar="Xx",
                        help="widen the blur by this factor before the last pass, 0.25x to 4x: 0.8x sharpens less than "
                        "the estimate asks for, 1.2x more")


def make_upscaler(args: argparse.Namespace) -> Upscaler:
    """The upscaler that ``args`` describe: ``weights`` and the options above."""
    model = load(args.weights, device=pick_device(args.device), iterations=args.iterations)
    return Upscaler(model, tile=args.tile, halo=args.halo, dtype=DTYPES[args.dtype], tolerance=args.tolerance,
                    kernel_from=args.kernel_from, ensemble=getattr(args, "ensemble", False),
                    strength=getattr(args, "strength", 1.0), blur=getattr(args, "blur", 1.0))
