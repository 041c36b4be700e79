"""Commands over many photos: one job per photo, names for its results, and the loop over all jobs."""

from __future__ import annotations

import argparse
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from tqdm import tqdm

from ..errors import DanFastError
from ..image_files import find_images
from .messages import say
from .timing import READ, WORK, WRITTEN, Clock
from .upscaler_options import add_engine_arguments

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Job:
    """One photo to work on.

    Attributes:
        source: the photo.
        target: path of its results, to which each adds its ending, for example ``_x4.png``.
    """

    source: Path
    target: Path


def add_photo_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the photos, ``--weights`` and all options of the engine."""
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH",
                        help="photos, or folders of photos (searched recursively)")
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
    taken: dict[str, Path] = {}
    for job in jobs:
        other = taken.setdefault(_key(job.target), job.source)
        if other != job.source:
            raise DanFastError(f"{other} and {job.source} would both become {job.target}…: run them one after "
                               "the other, into different folders")
    return jobs


def refuse_overwriting(jobs: Iterable[Job], outputs: Iterable[Path]) -> None:
    """Raise ``DanFastError`` if one of ``outputs`` is a job's photo, under whatever name or link."""
    inputs = {(stat.st_dev, stat.st_ino) for stat in (job.source.stat() for job in jobs)}
    for output in outputs:
        if output.exists() and (output.stat().st_dev, output.stat().st_ino) in inputs:
            raise DanFastError(f"{output} would be overwritten, but is one of the photos: choose another --output")


def for_each(jobs: list[Job], read: Callable[[Job], T], work: Callable[[Job, T], U], write: Callable[[Job, U], object],
             clock: Clock | None = None) -> int:
    """Run ``write(job, work(job, read(job)))`` for every job.

    While one photo is worked on, the next is read and the last one written, so that at most three are in memory. A job
    that fails is reported on stderr, and the others go on. An interrupt waits for the file that is being written.
    ``clock`` measures where the time goes.

    Returns:
        The command's exit code: 0, or 1 if a job failed.
    """
    failed = 0
    clock = clock or Clock()

    @contextmanager
    def reported(job: Job) -> Iterator[None]:
        nonlocal failed
        try:
            yield
        except (DanFastError, MemoryError, torch.OutOfMemoryError) as error:
            failed += 1
            known = isinstance(error, DanFastError)
            message = " ".join(str(error).split()) if known else "not enough memory: upscale with a smaller --tile"
            say(message if str(job.source) in message else f"{job.source}: {message}")

    def write_reported(job: Job, result: U) -> None:
        with reported(job):
            write(job, result)

    # disable=None: no bar unless stderr is a terminal.
    with (ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer,
          tqdm(total=len(jobs), unit="photo", disable=None) as bar):
        readings: deque[Future[T]] = deque()
        writing: Future[None] | None = None
        timed_read, timed_write = clock.elsewhere("reading", read), clock.elsewhere("writing", write_reported)
        for n, job in enumerate(jobs):
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
            bar.update()
        if writing:
            with clock(WRITTEN):
                writing.result()
    clock.stop()
    return 1 if failed else 0


def _within(path: Path, folder: Path) -> bool:
    """Whether ``path`` lies below ``folder``."""
    path, folder = path.resolve(), folder.resolve()
    return path != folder and path.is_relative_to(folder)


def _key(path: Path) -> str:
    """``path`` as a file system without case sees it."""
    return str(path).casefold()
