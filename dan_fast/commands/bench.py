"""``dan-fast bench``."""

from __future__ import annotations

import argparse
import platform
import re
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from .. import doctor
from ..arguments import whole_number
from ..checkpoint import load
from ..devices import add_device_argument, pick_device
from ..errors import DanFastError
from ..inference import Upscaler

# Until memory, compiled kernels and captured graphs are ready for a size.
WARM_UP = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", default="default", help="a weights file, or the name of weights that ship")
    parser.add_argument("--sizes", nargs="+", metavar="WxH", default=["64x64", "128x128", "256x256"],
                        help="of the images to upscale, pixels")
    parser.add_argument("--repeats", type=whole_number(1), default=10, help="timed calls for each size")
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    sizes = [_size(text) for text in args.sizes]
    device = pick_device(args.device)
    model = load(args.weights, device=device)
    config = model.config
    upscaler = Upscaler(model)
    print(f"{args.weights}: DAN{config.version} x{config.scale}, {config.iterations} iterations, "
          f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters")
    print(f"{_machine(device)}; torch {torch.__version__}, Python {platform.python_version()}")
    print(f"whole calls, 8-bit image in and out; {args.repeats} of each size after {WARM_UP} to warm up\n")
    print(f"{'size':>11}  {'median ms':>10}  {'fastest ms':>10}")
    for width, height in sizes:
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        times = _time(partial(upscaler, image), args.repeats)
        size = f"{width}x{height}"
        print(f"{size:>11}  {statistics.median(times):>10.2f}  {min(times):>10.2f}", flush=True)
    return 0


def _time(call: Callable[[], object], repeats: int) -> list[float]:
    """Milliseconds of each of ``repeats`` calls; a result is a NumPy array, so a GPU has finished."""
    for _ in range(WARM_UP):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return times


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or 0 in (width_height := (int(match[1]), int(match[2]))):
        raise DanFastError(f"--sizes {text}: expected WIDTHxHEIGHT in pixels, for example 128x128")
    return width_height


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{doctor.cpu()['name']}, {torch.get_num_threads()} threads"
