"""Trains a run to its last step: data in, checkpoints, validations and figures out."""

from __future__ import annotations

import errno
import logging
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor

from ..errors import DanFastError
from ..model import DAN
from .data import PatchDataset, StreamPart, on_device, patch_loader
from .diary import Diary
from .held import HeldImages, fits
from .processes import Processes
from .profile import step_profiler
from .run import BEST, WEIGHTS, Run
from .validation import Scores

log = logging.getLogger("dan_fast.train")

# Called with the averaged network by every process.
Validation = Callable[[DAN, Processes], Scores]


def train(run: Run, data: list[Path], validation: Validation | None = None) -> bool:
    """Train ``run`` to its last step. Returns False if the user stopped it before; it is saved either way.

    Raises:
        DanFastError: no image can be read, the run diverges again and again, the disk is full, another process of the
            run is gone; the message says what to do.
    """
    try:
        return _train(run, data, validation)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        newest = run.checkpoints.newest_first()
        kept = f"{newest[0].name} is kept: make room, then --resume" if newest else "make room, then start again"
        raise DanFastError(f"{run.options.out}: cannot write ({error.strerror}); {kept}") from None
    finally:
        run.take.release()


def _train(run: Run, data: list[Path], validation: Validation | None) -> bool:
    settings, options, processes = run.preset.training, run.options, run.processes
    dataset = PatchDataset(data, settings.patch * run.preset.config.scale, channels=run.preset.config.image_channels,
                           seed=run.seed)
    _ = dataset[run.step * settings.batch]  # says here, rather than in a worker, if nothing can be read
    stream = StreamPart(range(run.step, settings.steps), settings.batch, (processes.rank, processes.count))
    held = fits(dataset, options.device)
    batches: Iterable[Tensor] = (
        HeldImages(dataset, options.device).batches(stream, stream.own) if held
        else on_device(patch_loader(dataset, stream, options.workers), options.device))
    log.info("%d images%s, %.3f M parameters, steps %d to %d on %s in %s (%s)%s", len(dataset.images),
             " held on the GPU" if held else "",
             sum(p.numel() for p in run.model.parameters()) / 1e6, run.step, settings.steps, options.device,
             "bfloat16" if run.precision.bf16 else "float32", run.precision.why,
             f", {processes.count} processes" if processes.count > 1 else "")
    if run.step == 0:
        run.save()  # something to roll back to
    with (Diary(run) as diary, _StopSignal() as stop,
          step_profiler(options.out / "trace.json", options.profile and processes.main) as profiled):
        run.clock.start()
        for hr in run.clock.waiting_for(batches):
            run.train_step(hr, stop.requested)
            last = run.step == settings.steps
            # One process can stop at once; several stop at the step where all know of it.
            stopping = stop.requested and processes.count == 1
            for step, report, times in run.reports(all_of_them=last):
                diary.write(step, report, times)
                stopping = stopping or (report.stop > 0 and not last)
            profiled()
            if validation and (run.step % options.validate_every == 0 or last) and not stopping:
                with run.clock.not_counting():
                    scores = validation(run.average, processes)
                diary.write_scores(run.step, scores)
                run.save_if_best(scores.psnr)
            if run.step % options.save_every == 0 or last or stopping:
                run.save()
            if stopping:
                log.info("stopped and saved at step %d; --resume goes on", run.step)
                return False
    if processes.main:
        _say_where_the_weights_are(run)
    return True


def _say_where_the_weights_are(run: Run) -> None:
    weights = run.options.out / WEIGHTS
    log.info("weights: %s; use them: dan-fast upscale PHOTO -o FOLDER --weights %s", weights, weights)
    psnr, step = run.best
    if step not in (0, run.step):
        log.info("the best validation, %.2f dB, was in step %d: %s", psnr, step, run.options.out / BEST)


class _StopSignal:
    """Notes the first Ctrl-C (or SIGTERM) instead of breaking a step in the middle; the second one breaks."""

    def __enter__(self) -> _StopSignal:
        self.requested = False
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _note(self, number: int, frame) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        log.info("stopping after this step …")

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
