"""Trains a run to its last step: feeds it batches, saves checkpoints, validates and logs."""

from __future__ import annotations

import errno
import logging
import signal
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

from torch import Tensor

from ..errors import DanFastError
from .data import PatchDataset, StreamPart, on_device, patch_loader
from .gpu_images import GPUImages, fit_on_gpu
from .profile import step_profiler
from .run import BEST, WEIGHTS, Run
from .run_log import RunLog
from .time_limit import TimeLimit
from .validation import Scores

log = logging.getLogger("dan_fast.train")

# Every process calls it with the averaged network and its ``Processes``. By the clock there is a third argument, a
# function that says whether to give up; only then the result may be None.
Validation = Callable[..., Scores | None]
# Steps of a run by the clock: more than any run takes.
ENDLESS = 10**9


def train(run: Run, data: list[Path], validation: Validation | None = None, limit: TimeLimit | None = None) -> bool:
    """Train ``run`` to its last step. Return False if the user stopped it before; it is saved in both cases.

    Args:
        data: files and folders, as ``PatchDataset`` takes them.
        limit: for a run by the clock (``minutes`` in its settings); None: its minutes begin now.

    Raises:
        DanFastError: no time is left to train, no image can be read, the run diverges again and again, the disk is
            full, or another process of the run is gone; the message says what to do.
    """
    try:
        if run.preset.training.minutes:
            run.limit = limit or TimeLimit(run.preset.training.minutes)
        return _train(run, data, validation)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        newest = run.checkpoints.newest_first()
        remedy = f"{newest[0].name} is kept: make room, then --resume" if newest else "make room, then start again"
        raise DanFastError(f"{run.options.out}: cannot write ({error.strerror}); {remedy}") from None
    finally:
        run.training_step.release()


def _train(run: Run, data: list[Path], validation: Validation | None) -> bool:
    settings, options, processes = run.preset.training, run.options, run.processes
    dataset = PatchDataset(data, settings.patch * run.preset.config.scale, channels=run.preset.config.image_channels,
                           seed=run.seed)
    _ = dataset[run.step * settings.batch]  # raises here, rather than in a worker, if no image can be read
    limit, end = run.limit, run.step + ENDLESS if run.limit else settings.steps
    stream = StreamPart(range(run.step, end), settings.batch, (processes.rank, processes.count))
    on_gpu = fit_on_gpu(dataset, options.device)
    batches: Iterable[Tensor] = (
        GPUImages(dataset, options.device).batches(stream, stream.own) if on_gpu
        else on_device(patch_loader(dataset, stream, options.workers), options.device))
    log.info("%d images%s, %.3f M parameters, %s on %s in %s (%s)%s", len(dataset.images),
             " held on the GPU" if on_gpu else "",
             sum(p.numel() for p in run.model.parameters()) / 1e6,
             f"from step {run.step} on for {settings.minutes:g} minutes" if limit
             else f"steps {run.step} to {settings.steps}", options.device,
             "bfloat16" if run.precision.bf16 else "float32", run.precision.why,
             f", {processes.count} processes" if processes.count > 1 else "")
    if run.step == 0 or limit:  # to have a state to roll back to, and by the clock to learn how long a save takes
        _save(run)
    if limit:
        limit.begin(settings, options.device, processes, anew=run.begins, validates=validation is not None)
    with (RunLog(run) as run_log, _StopSignal() as stop,
          step_profiler(options.out / "trace.json", options.profile and processes.main) as profiled):
        run.clock.start()
        for hr in run.clock.waiting_for(batches):
            run.train_on(hr, stop.requested)
            last = limit.tick() if limit else run.step == end
            # A single process can stop at once; several stop at the step in whose report all read the wish.
            stopping = stop.requested and processes.count == 1
            for step, report, times in run.reports(all_of_them=last):
                run_log.write(step, report, times)
                stopping = stopping or (report.stop > 0 and not last)
            profiled()
            if limit and last:
                _save(run)  # first of all, as the time may be over
            validated = bool(validation and (run.step % options.validate_every == 0 or last) and not stopping
                             and _validate(run, validation, run_log, last))
            if limit and not stopping:
                saves = validated if last else run.step % options.save_every == 0 and limit.may_save()
            else:
                saves = run.step % options.save_every == 0 or last or stopping
            if saves:
                _save(run)
            if stopping:
                log.info("stopped and saved at step %d; --resume goes on", run.step)
                return False
            if last:
                break
    if limit:
        log.info("step %d after %.1f of %g minutes, %.1f in all; --resume with --minutes goes on", run.step,
                 limit.used / 60, settings.minutes, run.minutes)
    if processes.main:
        _log_where_the_weights_are(run)
    return True


def _save(run: Run) -> None:
    with run.limit.saving() if run.limit else nullcontext():
        run.save()


def _validate(run: Run, validation: Validation, run_log: RunLog, at_the_end: bool) -> bool:
    """Validate and save the best weights; return False if there was no time for it."""
    if run.limit is None:
        with run.clock.paused():
            scores = validation(run.average, run.processes)
    elif not run.limit.may_validate(at_the_end):
        return False
    else:
        with run.clock.paused(), run.limit.validating() as must_give_up:
            scores = validation(run.average, run.processes, must_give_up)
        if scores is None:
            run.limit.validation_gave_up()
            return False
    assert scores is not None
    run_log.write_scores(run.step, scores)
    run.save_if_best(scores.psnr)
    return True


def _log_where_the_weights_are(run: Run) -> None:
    weights = run.options.out / WEIGHTS
    log.info("weights: %s; use them: dan-fast upscale PHOTO -o FOLDER --weights %s", weights, weights)
    psnr, step = run.best
    if step not in (0, run.step):
        log.info("the best validation, %.2f dB, was in step %d: %s", psnr, step, run.options.out / BEST)


class _StopSignal:
    """Notes the first Ctrl-C or SIGTERM, so that the step is finished; the second one interrupts at once."""

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
