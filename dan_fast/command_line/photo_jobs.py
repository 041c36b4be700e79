"""Commands over many photos: one job per photo, names for its results, and the loop over all jobs."""

from __future__ import annotations

import argparse
import errno
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from ..errors import DanFastError
from ..image_files import ImageBytes, find_images
from .arguments import Options
from .messages import PhotoBar, say
from .timing import READ, WORK, WRITTEN, Clock
from .upscaler_options import add_engine_arguments

T = TypeVar("T")
U = TypeVar("U")

_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class Job:
    """One photo to work on.

    Attributes:
        source: the photo.
        target: path of its results, to which each adds its ending, for example ``_x4.png``.
    """

    source: Path | ImageBytes
    target: Path


def add_paths_argument(parser: argparse.ArgumentParser, *, stream: bool = False) -> None:
    """Add the photos. ``stream``: ``-`` is standard input."""
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH",
                        help="photos, or folders of photos (searched recursively)"
                        + ("; - for one photo from standard input" if stream else ""))


def add_network_arguments(parser: Options) -> None:
    """Add ``--weights`` and all options of the engine."""
    parser.add_argument("--weights", default="default", help="a weights file, or the name of weights that ship")
    add_engine_arguments(parser)


def find_jobs(paths: Iterable[Path], out: Path) -> list[Job]:
    """One job for each photo among ``paths``, with distinct targets in ``out``; folders keep their tree.

    If photos differ in their suffix only, their targets keep it. Photos in ``out`` are results of an earlier run, and
    are left out where ``out`` lies in a folder among ``paths``.

    Raises:
        DanFastError: a path is missing, a folder holds no photo, or two photos from different folders would have the
            same target.
    """
    sources: dict[Path, Path] = {}
    for path in paths:
        for source in find_images([path]):
            inside = path.is_dir()
            if inside and _within(out, path) and _within(source, out):
                continue
            sources.setdefault(source, out / (source.relative_to(path) if inside else source.name))
    if not sources:
        raise DanFastError(f"no photo but those in the output folder {out}: give photos or folders outside it")
    # Compared without case, as some file systems ignore it.
    count = Counter(_key(target.with_suffix("")) for target in sources.values())
    jobs = [Job(source, target.with_suffix("") if count[_key(target.with_suffix(""))] == 1
                else target.with_name(f"{target.stem}_{target.suffix[1:]}"))
            for source, target in sources.items()]
    taken: dict[str, Path | ImageBytes] = {}
    for job in jobs:
        other = taken.setdefault(_key(job.target), job.source)
        if other != job.source:
            raise DanFastError(f"{other} and {job.source} would both become {job.target}…: run them one after "
                               "the other, into different folders")
    return jobs


def refuse_overwriting(jobs: Iterable[Job], outputs: Iterable[Path]) -> None:
    """Raise ``DanFastError`` if one of ``outputs`` is a job's photo, under whatever name or link."""
    inputs = {(stat.st_dev, stat.st_ino) for stat in (job.source.stat() for job in jobs
                                                      if isinstance(job.source, Path))}
    for output in outputs:
        if output.exists() and (output.stat().st_dev, output.stat().st_ino) in inputs:
            raise DanFastError(f"{output} would be overwritten, but is one of the photos: choose another --output")


def for_each(jobs: list[Job], read: Callable[[Job], T], work: Callable[[Job, T], U], write: Callable[[Job, U], object],
             *, clock: Clock | None = None, bar: PhotoBar | None = None,
             on_error: Callable[[Job, str], object] | None = None) -> int:
    """Run ``write(job, work(job, read(job)))`` for every job.

    While one photo is worked on, the next is read and the last one written, so that at most three are in memory. A job
    that fails is reported on stderr, and the others go on, except when the disk is full: then nothing more is begun. An
    interrupt waits for the file that is being written.

    Args:
        clock: measures where the time goes.
        bar: shows how far the work is; ``None``: one that moves photo by photo.
        on_error: gets each job that failed and the reason, which is also on stderr.

    Returns:
        The command's exit code: 0, or 1 if a job failed.
    """
    failed, disk_is_full = 0, False
    clock, bar = clock or Clock(), bar or PhotoBar(len(jobs))

    @contextmanager
    def reported(job: Job) -> Iterator[None]:
        nonlocal failed, disk_is_full
        try:
            yield
        except (DanFastError, MemoryError, torch.OutOfMemoryError) as error:
            failed += 1
            known = isinstance(error, DanFastError)
            message = " ".join(str(error).split()) if known else "not enough memory: use a smaller --tile"
            say(message if str(job.source) in message else f"{job.source}: {message}")
            if on_error:
                on_error(job, message)
            disk_is_full |= isinstance(error.__cause__, OSError) and error.__cause__.errno in _DISK_IS_FULL

    def write_reported(job: Job, result: U) -> None:
        with reported(job):
            write(job, result)

    with bar, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        readings: deque[Future[T]] = deque()
        writing: Future[None] | None = None
        timed_read, timed_write = clock.elsewhere("reading", read), clock.elsewhere("writing", write_reported)
        for n, job in enumerate(jobs):
            if disk_is_full:
                say(f"nothing more can be written: {len(jobs) - n} photos are left out")
                break
            readings += [reader.submit(timed_read, ahead) for ahead in jobs[n + len(readings):n + 2]]
            with reported(job):
                with clock(READ):
                    photo = readings.popleft().result()
                with clock(WORK):
                    result = work(job, photo)
                if writing:
                    with clock(WRITTEN):
                        writing.result()
                writing = writer.submit(timed_write, job, result)
            bar.next_photo()
        if writing:
            with clock(WRITTEN):
                writing.result()
    clock.stop()
    return 1 if failed else 0


def _within(path: Path, folder: Path) -> bool:
    """Whether ``path`` lies below ``folder``."""
    # Path.resolve raises an error where symbolic links lead in a circle.
    path, folder = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    return path != folder and path.is_relative_to(folder)


def _key(path: Path) -> str:
    """``path`` as a file system without case sees it."""
    return str(path).casefold()
