"""One photo of ``dan-fast upscale``: read, upscaled, brought to its size, written and reported."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..blur_kernels.files import read_npy
from ..blur_kernels.known import KnownKernel, known_kernel
from ..blur_kernels.shape import kernel_shape
from ..blur_kernels.shift import NO_SHIFT
from ..errors import ImageError, printable
from ..evaluation.pictures import kernel_picture, side_by_side
from ..image_files import Metadata, Photo, check_writable, encode_image, read_image, to_8_bits, write_image
from ..image_files.transparency import upscale_alpha
from ..inference import Upscaler, UpscaleResult
from ..ops.resize import resize_pixels
from .destination import Destination
from .finished import Recipe, is_finished
from .kernel_output import kernel_files, write_kernel
from .messages import say
from .output import print_json
from .photo_jobs import Job
from .scales import Upscalers
from .sizes import WantedSize, wanted_size

FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tif": ".tif", "avif": ".avif"}
_SAME_FORMAT = {".jpeg": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}
_WRITTEN = (*FORMATS.values(), *_SAME_FORMAT)
_NAME_BYTES = 255  # of a file's name, on all common file systems
# Options that a result does not follow from: where it goes, how the run is shown, and those whose files count.
_NOT_IN_RECIPE = {"command", "run", "started", "paths", "output", "suffix", "format", "skip_existing", "device",
                  "timing", "json", "quiet", "weights", "kernel"}


def same_format(suffix: str) -> str:
    """The suffix in ``FORMATS`` of the same format as ``suffix``, any case; unknown ones stay."""
    return _SAME_FORMAT.get(suffix.lower(), suffix.lower())


class Task(NamedTuple):
    """A photo that was read, and all that its result follows from.

    Attributes:
        upscaler: the one for its size.
        size: height and width of the result.
        note: by which ``--skip-existing`` knows the result; empty if there is no file to know it from.
        started: when reading began, seconds.
    """

    photo: Photo
    upscaler: Upscaler
    size: tuple[int, int]
    note: str
    started: float


class Upscaling:
    """Reads, upscales and writes one photo after the other, as the arguments of the command say.

    Attributes:
        progress: for the photo that is being upscaled, as for ``Upscaler``.
        done: the number of photos that were written.
    """

    def __init__(self, args: argparse.Namespace, place: Destination, upscalers: Upscalers) -> None:
        self.args, self.place, self.upscalers, self.done = args, place, upscalers, 0
        self.progress: Callable[[int, int], object] | None = None
        self._wanted: WantedSize | None = wanted_size(args)
        self._kernel: KnownKernel | None = self._known_kernel(args.kernel) if args.kernel else None
        self._suffix: str = args.suffix
        if self._suffix is None:
            self._suffix = f"_{self._wanted.name if self._wanted else f'x{upscalers.reaching(1).scale}'}"
        options = {name: str(value) for name, value in vars(args).items() if name not in _NOT_IN_RECIPE}
        self._recipe = Recipe(options, [*upscalers.files(), *([args.kernel] if args.kernel else [])])

    def outputs(self, job: Job) -> list[Path]:
        """Every file that the job writes, the image first."""
        if self.place.stream:
            return []
        files = [self._image_path(job)]
        if self.args.save_kernel:
            files += kernel_files(self._beside(job, "_kernel"))
        if self.args.compare:
            files.append(self._beside(job, "_compare.png"))
        return files

    def is_done(self, job: Job) -> bool:
        """Whether an earlier run finished the job."""
        found = _stat(job)
        return found is not None and is_finished(self.outputs(job), self._recipe.note(found))

    def read(self, job: Job) -> Task:
        started, before = time.perf_counter(), _stat(job)
        photo = read_image(job.source).visible()
        after = _stat(job)
        if before and (after is None or _version(before) != _version(after)):
            raise ImageError(f"{job.source}: it changed while it was read: try again when it is complete")
        height, width = photo.rgb.shape[:2]
        if self._wanted:
            size = self._wanted.of(height, width)
            upscaler = self.upscalers.reaching(max(size[0] / height, size[1] / width))
        else:
            upscaler = self.upscalers.reaching(1)
            size = height * upscaler.scale, width * upscaler.scale
        check_writable(self._image_path(job), *size)  # before the slow part
        for file in self.outputs(job):
            if len(os.fsencode(file.name)) > _NAME_BYTES:
                raise ImageError(f"{job.source}: the name of its result, {file.name}, has more than {_NAME_BYTES} "
                                 "bytes: rename the photo, or give a shorter --suffix")
        return Task(photo, upscaler, size, self._recipe.note(before) if before else "", started)

    def upscale(self, job: Job, task: Task) -> tuple[Task, UpscaleResult]:
        wants_kernel = self.args.save_kernel or self.args.compare or self.args.json
        return task, task.upscaler(task.photo.pixels, kernel=self._kernel, wants_kernel=wants_kernel,
                                   progress=self.progress)

    def write(self, job: Job, upscaled: tuple[Task, UpscaleResult]) -> None:
        task, (image, kernel) = upscaled
        photo, notes = task.photo, list(task.photo.notes)
        alpha = None if photo.alpha is None else upscale_alpha(photo.alpha, task.upscaler.scale)
        if image.shape[:2] != task.size:
            if task.size[0] > image.shape[0]:
                notes.append(f"x{task.upscaler.scale} is the largest scale there is: the rest of the way to "
                             f"{task.size[1]}x{task.size[0]} is bicubic")
            image = resize_pixels(image, *task.size)
            alpha = None if alpha is None else resize_pixels(alpha, *task.size)
        if self.args.save_kernel:
            write_kernel(self._beside(job, "_kernel"), kernel)
        if self.args.compare:
            write_image(self._beside(job, "_compare.png"), _comparison(photo, image, kernel))
        # The image comes last: where it is, the job is done.
        notes += self._write_image(job, task, image, alpha)
        self.done += 1
        self._report(job, task, notes, kernel)

    def _write_image(self, job: Job, task: Task, image: np.ndarray, alpha: np.ndarray | None) -> Sequence[str]:
        """Write the result and return what was lost, one sentence each."""
        path, photo = self._image_path(job), task.photo
        metadata = photo.metadata if self.args.metadata == "keep" else Metadata()
        if task.note:
            metadata = metadata.noted(task.note)
        options: dict[str, Any] = {"grey": photo.grey, "icc_profile": photo.icc_profile, "metadata": metadata,
                                   "quality": self.args.quality}
        if not self.place.stream:
            return write_image(path, image, alpha, **options)
        data, lost = encode_image(path, image, alpha, **options)
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:  # nobody reads any more, which ends the command quietly
            raise
        except OSError as error:
            raise ImageError(f"standard output: cannot be written: {error.strerror}") from error
        return lost

    # --- reports --------------------------------------------------------------------------------

    def report_failure(self, job: Job, message: str) -> None:
        self._print_json(job, error=message)

    def report_skipped(self, job: Job) -> None:
        self._print_json(job, result=str(self._image_path(job)), skipped=True)

    def _report(self, job: Job, task: Task, notes: Sequence[str], kernel: np.ndarray | None) -> None:
        seconds, (height, width) = time.perf_counter() - task.started, task.size
        path = self._image_path(job)
        sigma = None if kernel is None or self._kernel else kernel_shape(kernel).sigma  # of an estimate
        self._print_json(job, result=str(path), width=width, height=height, scale=height / task.photo.rgb.shape[0],
                         seconds=round(seconds, 3), sigma_pixels=sigma,
                         files=[str(file) for file in self.outputs(job)], notes=list(notes))
        if self.args.json or self.args.quiet:
            return
        for note in notes:
            say(f"{job.source}: {note}")
        # On a terminal the bar says enough.
        if not self.place.stream and not (sys.stdout.isatty() and sys.stderr.isatty()):
            print(printable(f"{job.source} -> {path} ({width}x{height}, {seconds:.1f} s)"), flush=True)

    def _print_json(self, job: Job, **known: object) -> None:
        if self.args.json:
            nothing: dict[str, object] = {
                "result": None, "width": None, "height": None, "scale": None, "seconds": None, "sigma_pixels": None,
                "files": [], "notes": [], "skipped": False, "error": None}
            print_json("upscale", source=str(job.source), **{**nothing, **known})

    # --- names ----------------------------------------------------------------------------------

    def _image_path(self, job: Job) -> Path:
        if self.place.file:
            return self.place.file
        suffix = FORMATS.get(self.args.format, getattr(job.source, "suffix", "").lower())
        return self._beside(job, suffix if suffix in _WRITTEN else ".png")

    def _beside(self, job: Job, ending: str) -> Path:
        """Path of a result of the job, NAME_x4 and ``ending``."""
        if self.place.file:
            return self.place.file.with_name(self.place.file.stem + ending)
        return job.target.with_name(f"{job.target.name}{self._suffix}{ending}")

    def _known_kernel(self, path: Path) -> KnownKernel:
        known = known_kernel(read_npy(path), self.upscalers.reaching(1).model.config.kernel_size)
        if known.shift != NO_SHIFT and not self.args.quiet:
            cut = f"; {known.outside:.0%} of it is cut off" if known.outside >= 0.005 else ""
            say(f"{path}: its centre of mass lies {known.shift} of its middle: centred{cut}, and the results moved "
                "back")
        return known


def _stat(job: Job) -> os.stat_result | None:
    """The state of the job's file; None if there is none."""
    try:
        return os.stat(job.source) if isinstance(job.source, Path) else None
    except OSError:  # reading it will say why
        return None


def _version(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino


def _comparison(photo: Photo, image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    ours = to_8_bits(image)
    if ours.ndim == 2:
        ours = cv2.cvtColor(ours, cv2.COLOR_GRAY2RGB)
    plain = resize_pixels(to_8_bits(photo.rgb), *ours.shape[:2])
    return side_by_side([plain, ours, kernel_picture(kernel, max(84, min(420, ours.shape[0])))],
                        ["bicubic", "DAN", "kernel"])
