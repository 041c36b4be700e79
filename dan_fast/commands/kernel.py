"""``dan-fast kernel`` estimates the blur kernels of photos."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..blur_kernels.shape import kernel_shape
from ..blur_kernels.shift import NO_SHIFT, kernel_shift
from ..command_line.kernel_output import kernel_files, write_kernel
from ..command_line.photo_jobs import Job, add_photo_arguments, find_jobs, for_each, refuse_overwriting
from ..command_line.upscaler_options import make_upscaler
from ..errors import printable
from ..files import make_folder
from ..image_files import Photo, find_images, read_image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_photo_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR",
                        help="folder for NAME_kernel.png and NAME_kernel.npy (default: only print the widths)")


def run(args: argparse.Namespace) -> int:
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
        shift = kernel_shift(kernel)
        off = "" if shift == NO_SHIFT else f"; its centre of mass lies {shift} of its middle"
        tqdm.write(printable(f"{job.source}: {kernel_shape(kernel)}{off}"))

    return for_each(jobs, lambda job: read_image(job.source).visible(), estimate, write)


def _stem(job: Job) -> Path:
    return job.target.with_name(f"{job.target.name}_kernel")
