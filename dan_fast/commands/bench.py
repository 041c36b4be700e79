"""``dan-fast bench`` times a network on this machine."""

from __future__ import annotations

import argparse
import platform
import re
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import doctor
from ..checkpoint import load
from ..command_line.arguments import add_device_argument, whole_number
from ..command_line.output import add_output_arguments, print_json, refuse_silence
from ..command_line.upscaler_options import DTYPES
from ..errors import DanFastError
from ..evaluation.plain_model import upscale_plainly
from ..evaluation.timings import Timing, write_timings
from ..fast_model import cost
from ..files import make_folder
from ..inference import Upscaler
from ..runtime.devices import pick_device

# Calls until memory, compiled GPU kernels and captured graphs are ready for a size.
WARM_UP = 3
# Fields of a Timing that --json prints for each size; the others are the same for all sizes.
_OF_SIZE = ("width", "height", "median_ms", "fastest_ms", "floor_ms", "plain_ms")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", default="default", help="a weights file, or the name of weights that ship")
    parser.add_argument("--sizes", nargs="+", metavar="WxH", default=["64x64", "128x128", "270x180", "510x340"],
                        help="sizes of the images to upscale, pixels")
    parser.add_argument("--repeats", type=whole_number(1), default=10, help="timed calls for each size")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="floating-point type to compute in")
    parser.add_argument("--plain", action="store_true",
                        help="also time the plain PyTorch model (channels_last), in turn; like ours it leaves out the "
                        "last Estimator, whose kernel nobody asks for")
    parser.add_argument("--csv", type=Path, metavar="FILE",
                        help="also write the times to this file (default: only print them)")
    add_device_argument(parser)
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    refuse_silence(args, "--csv FILE", args.csv)
    sizes = [_size(text) for text in args.sizes]
    device, dtype = pick_device(args.device), DTYPES[args.dtype]
    model = load(args.weights, device=device)
    config = model.config
    upscaler = Upscaler(model, dtype=dtype)
    plain = model.to(dtype).to(memory_format=torch.channels_last) if args.plain else None  # type: ignore[call-overload]
    machine = f"{_machine(device)}; torch {torch.__version__}, Python {platform.python_version()}"
    rate = _rate(device, dtype)
    winograd = device.type == "cpu" and dtype == torch.float32
    work = cost.planned(config, wants_kernel=False, winograd=winograd)
    facts = {"weights": args.weights, "version": config.version, "scale": config.scale,
             "iterations": config.iterations, "parameters": sum(p.numel() for p in model.parameters()),
             "machine": machine, "device": str(device), "dtype": args.dtype, "repeats": args.repeats,
             "multiply_adds_per_pixel": work, "multiply_adds_per_second": rate}
    show = not (args.json or args.quiet)
    if show:
        print(_head(facts, args.plain), flush=True)
    timings = []
    for width, height in sizes:
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        calls: list[Callable[[], object]] = [partial(upscaler, image, wants_kernel=False)]
        if plain:
            calls.append(partial(upscale_plainly, plain, image[None]))
        times = _time(calls, args.repeats)
        medians = [statistics.median(of_call) for of_call in times]
        timings.append(Timing(machine, args.dtype, width, height, medians[0], min(times[0]),
                              1000 * work * width * height / rate, medians[1] if plain else None))
        if show:
            print(_line(timings[-1]), flush=True)
    if args.csv is not None:
        make_folder(args.csv.parent)
        write_timings(args.csv, timings)
    if args.json:
        print_json("bench", **facts, sizes=[{name: getattr(timing, name) for name in _OF_SIZE} for timing in timings])
    return 0


def _head(facts: dict[str, Any], plain: bool) -> str:
    """All lines above those of the sizes."""
    return "\n".join([
        f"{facts['weights']}: DAN{facts['version']} x{facts['scale']}, {facts['iterations']} iterations, "
        f"{facts['parameters'] / 1e6:.2f} million parameters, {facts['dtype']}",
        facts["machine"],
        f"whole calls, 8-bit image in and out; {facts['repeats']} per size after {WARM_UP} to warm up",
        f"floor: {facts['multiply_adds_per_pixel'] / 1e6:.2f} million multiply-adds per pixel at "
        f"{facts['multiply_adds_per_second'] / 1e9:.0f} per ns, the rate of a matrix product\n",
        f"{'size':>11}  {'median ms':>10}  {'fastest ms':>10}  {'floor ms':>9}  {'share':>5}"
        + (f"  {'plain ms':>10}  {'ratio':>6}" if plain else "")])


def _line(timing: Timing) -> str:
    size = f"{timing.width}x{timing.height}"
    line = (f"{size:>11}  {timing.median_ms:>10.2f}  {timing.fastest_ms:>10.2f}  {timing.floor_ms:>9.2f}  "
            f"{timing.floor_ms / timing.median_ms:>5.0%}")
    return line if timing.plain_ms is None else (
        f"{line}  {timing.plain_ms:>10.2f}  {timing.plain_ms / timing.median_ms:>6.2f}")


def _time(calls: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """Time ``repeats`` rounds of all ``calls`` in turn; milliseconds per call. Calls return when a GPU has finished."""
    for call in calls:
        for _ in range(WARM_UP):
            call()
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, of_call in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            of_call.append(1000 * (time.perf_counter() - start))
    return times


def _rate(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-adds per second of a large matrix product on ``device``."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def product() -> float:
        return (a @ b)[0, 0].item()

    return side**3 / (min(_time([product], 5)[0]) / 1000)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or 0 in (width_height := (int(match[1]), int(match[2]))):
        raise DanFastError(f"--sizes {text}: expected WIDTHxHEIGHT in pixels, for example 128x128")
    return width_height


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{doctor.cpu().name}, {torch.get_num_threads()} threads"
