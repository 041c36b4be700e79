"""``dan-fast kernel`` estimates the blur kernels of photos."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..blur_kernels.shape import kernel_shape
from ..blur_kernels.shift import NO_SHIFT, kernel_shift
from ..command_line.kernel_output import kernel_files, write_kernel
from ..command_line.messages import PhotoBar
from ..command_line.output import add_output_arguments, print_json, refuse_silence
from ..command_line.photo_jobs import (
    Job,
    add_network_arguments,
    add_paths_argument,
    find_jobs,
    for_each,
    refuse_overwriting,
)
from ..command_line.upscaler_options import make_upscaler
from ..errors import printable
from ..files import make_folder
from ..image_files import Photo, find_images, read_image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths_argument(parser)
    add_network_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR",
                        help="folder for NAME_kernel.png and NAME_kernel.npy (default: only print the widths)")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    refuse_silence(args, "-o DIR", args.output)
    # Without files to write no names can clash.
    jobs = find_jobs(args.paths, args.output) if args.output else [Job(path, path) for path in find_images(args.paths)]
    upscaler = make_upscaler(args)
    if args.output:
        refuse_overwriting(jobs, (path for job in jobs for path in kernel_files(_stem(job))))
        make_folder(args.output)

    def estimate(job: Job, photo: Photo) -> np.ndarray:
        return upscaler.estimate_kernel(photo.pixels)

    def write(job: Job, kernel: np.ndarray) -> None:
        if args.output:
            write_kernel(_stem(job), kernel)
        if args.json:
            print_json("kernel", **_figures(job, kernel, kernel_files(_stem(job)) if args.output else []))
        elif not args.quiet:
            shift = kernel_shift(kernel)
            off = "" if shift == NO_SHIFT else f"; its centre of mass lies {shift} of its middle"
            tqdm.write(printable(f"{job.source}: {kernel_shape(kernel)}{off}"))

    def report_failure(job: Job, message: str) -> None:
        if args.json:
            print_json("kernel", **_figures(job, error=message))

    return for_each(jobs, lambda job: read_image(job.source).visible(), estimate, write,
                    bar=PhotoBar(len(jobs), hidden=args.quiet or args.json), on_error=report_failure)


def _figures(job: Job, kernel: np.ndarray | None = None, files: Sequence[Path] = (), error: str | None = None
             ) -> dict[str, object]:
    """The fields of docs/schemas/kernel.json; what is known of ``kernel`` is None without one."""
    shape, shift = (None, None) if kernel is None else (kernel_shape(kernel), kernel_shift(kernel))
    return {
        "source": str(job.source),
        "sigma_pixels": shape and shape.sigma, "sigma_long_pixels": shape and shape.major,
        "sigma_short_pixels": shape and shape.minor, "angle_degrees": shape and shape.angle,
        "shift_down_pixels": shift and shift.down, "shift_right_pixels": shift and shift.right,
        "kernel_size": None if kernel is None else len(kernel),
        "files": [str(file) for file in files], "error": error,
    }


def _stem(job: Job) -> Path:
    return job.target.with_name(f"{job.target.name}_kernel")
