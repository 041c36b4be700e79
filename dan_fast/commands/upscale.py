"""``dan-fast upscale`` upscales photos of unknown blur."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from ..blur_kernels.files import read_npy
from ..blur_kernels.known import KnownKernel, known_kernel
from ..blur_kernels.shift import NO_SHIFT
from ..command_line.arguments import whole_number
from ..command_line.kernel_output import kernel_files, write_kernel
from ..command_line.messages import say
from ..command_line.photo_jobs import Job, add_photo_arguments, find_jobs, for_each, refuse_overwriting
from ..command_line.timing import Clock, timing_table
from ..command_line.upscaler_options import add_ensemble_argument, make_upscaler
from ..evaluation.measure import bicubic
from ..evaluation.pictures import kernel_picture, side_by_side
from ..files import make_folder
from ..image_files import Photo, check_writable, read_image, to_8_bits, write_image
from ..image_files.transparency import upscale_alpha
from ..inference import Upscaler, UpscaleResult

FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tif": ".tif"}
_WRITTEN = (*FORMATS.values(), ".jpeg", ".tiff")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_photo_arguments(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR",
                        help="folder for the results, NAME_x4.png and so on; results of an earlier run are "
                        "replaced, photos never")
    parser.add_argument("--format", choices=("same", *FORMATS), default="same",
                        help="file format; same: the photo's, png where that cannot be written")
    parser.add_argument("--quality", type=whole_number(1, 100), default=95, help="quality of jpg and webp, 1 to 100")
    parser.add_argument("--kernel", type=Path, metavar="FILE",
                        help="the blur kernel, if it is known: a .npy file of n x n numbers with the sum 1; nothing is "
                        "estimated; a kernel that is not centred is centred, and the results are moved back "
                        "(default: estimate it)")
    add_ensemble_argument(parser)
    parser.add_argument("--save-kernel", action="store_true",
                        help="also write the estimated kernel, NAME_x4_kernel.png and .npy")
    parser.add_argument("--compare", action="store_true",
                        help="also write NAME_x4_compare.png: bicubic, DAN and the kernel side by side")
    parser.add_argument("--timing", action="store_true", help="print at the end where the time went")


def run(args: argparse.Namespace) -> int:
    jobs = find_jobs(args.paths, args.output)
    upscaler = make_upscaler(args)
    command = _Upscale(args, upscaler)
    refuse_overwriting(jobs, (path for job in jobs for path in command.outputs(job)))
    make_folder(args.output)
    clock = Clock()
    code = for_each(jobs, command.read, command.upscale, command.write, clock)
    print(f"{command.done} of {len(jobs)} photos upscaled into {args.output}")
    if args.timing:
        print(timing_table(clock, upscaler.stats(), upscaler.device.type == "cuda"))
    return code


class _Upscale:
    """Reads, upscales and writes one photo, as the arguments say."""

    def __init__(self, args: argparse.Namespace, upscaler: Upscaler) -> None:
        self.args, self.upscaler, self.done = args, upscaler, 0
        self.kernel: KnownKernel | None = None
        if args.kernel:
            self.kernel = known = known_kernel(read_npy(args.kernel), upscaler.model.config.kernel_size)
            if known.shift != NO_SHIFT:
                cut = f"; {known.outside:.0%} of it is cut off" if known.outside >= 0.005 else ""
                say(f"{args.kernel}: its centre of mass lies {known.shift} of its middle: centred{cut}, and the "
                    "results moved back")

    def outputs(self, job: Job) -> list[Path]:
        """Every file that the job writes, the image first."""
        files = [self._image_path(job)]
        if self.args.save_kernel:
            files += kernel_files(self._beside(job, "_kernel"))
        if self.args.compare:
            files.append(self._beside(job, "_compare.png"))
        return files

    def read(self, job: Job) -> Photo:
        photo = read_image(job.source).visible()
        height, width = (self.upscaler.scale * side for side in photo.rgb.shape[:2])
        check_writable(self._image_path(job), height, width)  # before the slow part
        return photo

    def upscale(self, job: Job, photo: Photo) -> tuple[Photo, UpscaleResult]:
        wants_kernel = self.args.save_kernel or self.args.compare
        return photo, self.upscaler(photo.pixels, kernel=self.kernel, wants_kernel=wants_kernel)

    def write(self, job: Job, upscaled: tuple[Photo, UpscaleResult]) -> None:
        photo, result = upscaled
        scale = self.upscaler.scale
        alpha = None if photo.alpha is None else upscale_alpha(photo.alpha, scale)
        lost = write_image(self._image_path(job), result.image, alpha, grey=photo.grey, icc_profile=photo.icc_profile,
                           quality=self.args.quality)
        if self.args.save_kernel:
            write_kernel(self._beside(job, "_kernel"), result.kernel)
        if self.args.compare:
            write_image(self._beside(job, "_compare.png"), _comparison(photo, result.image, result.kernel, scale))
        for note in (*photo.notes, *lost):
            say(f"{job.source}: {note}")
        self.done += 1

    def _image_path(self, job: Job) -> Path:
        suffix = FORMATS.get(self.args.format, job.source.suffix.lower())
        return self._beside(job, suffix if suffix in _WRITTEN else ".png")

    def _beside(self, job: Job, ending: str) -> Path:
        """Path of a result of the job, NAME_x4 and ``ending``."""
        return job.target.with_name(f"{job.target.name}_x{self.upscaler.scale}{ending}")


def _comparison(photo: Photo, image: np.ndarray, kernel: np.ndarray, scale: int) -> np.ndarray:
    ours = to_8_bits(image)
    if ours.ndim == 2:
        ours = cv2.cvtColor(ours, cv2.COLOR_GRAY2RGB)
    plain = bicubic(to_8_bits(photo.rgb), scale)
    return side_by_side([plain, ours, kernel_picture(kernel, max(84, min(420, ours.shape[0])))],
                        ["bicubic", "DAN", "kernel"])
