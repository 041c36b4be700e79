"""Logs a run: progress bar, ``metrics.csv``, ``validation.csv``, TensorBoard."""

from __future__ import annotations

import csv
import io
import logging
import math
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..files import write_atomically
from ..runtime.devices import peak_memory
from .clock import StepTimes
from .run import Run
from .step import Report
from .validation import Scores

METRICS = ("step", "sr", "kernel", "gradient_norm", "learning_rate", "images_per_s", "data_ms")
SCORES = ("step", "psnr_y", "kernel_error")
# A warning is given where more than this share of the time is spent waiting for images.
DATA_BOUND = 0.2
log = logging.getLogger("dan_fast.train")


class Table:
    """A CSV file that grows by rows, each beginning with its step; rows from ``step`` on are removed first."""

    def __init__(self, path: Path, columns: tuple[str, ...], step: int) -> None:
        earlier = []
        if path.is_file():
            rows = list(csv.reader(path.read_text().splitlines()))
            # A killed run may have left half a row.
            earlier = [row for row in rows[1:] if len(row) == len(columns) and row[0].isdigit() and int(row[0]) < step]
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([columns, *earlier])
        write_atomically(path, buffer.getvalue().encode())
        self._file = open(path, "a", newline="")  # noqa: SIM115  closed by close()
        self._writer = csv.writer(self._file, lineterminator="\n")

    def add(self, *row: float) -> None:
        self._writer.writerow([value if isinstance(value, int) else f"{value:.9g}" for value in row])
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class RunLog:
    """Logs ``run`` from its current step on, in its folder. Only the main process writes and shows anything."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._times: list[StepTimes] = []  # since the last row
        self._rows = 0
        self._warned_data_bound = False

    def __enter__(self) -> RunLog:
        run, main = self._run, self._run.processes.main
        # Reports that had not been read at the checkpoint are logged now.
        first = min([*run.delayed_reports.state_dict(), run.step + 1])
        total = None if run.limit else run.preset.training.steps
        self._bar = tqdm(initial=first - 1, total=total, unit="step", dynamic_ncols=True, smoothing=0.05,
                         disable=not main)
        if main:
            out = run.options.out
            self._writer = SummaryWriter(str(out), purge_step=first)
            self._metrics = Table(out / "metrics.csv", METRICS, first)
            self._scores = Table(out / "validation.csv", SCORES, run.step + 1)
        return self

    def __exit__(self, *exception) -> None:
        self._bar.close()
        if self._run.processes.main:
            for file in (self._writer, self._metrics, self._scores):
                file.close()

    def write(self, step: int, report: Report, times: StepTimes | None) -> None:
        """Log one step; only every ``log_every``-th goes to the files. ``times``: None if they are not known."""
        self._bar.update(step - self._bar.n)
        if not self._run.processes.main:
            return
        if times is not None:
            self._times.append(times)
        if step % self._run.options.log_every:
            return
        images, data_ms = self._speed()
        self._metrics.add(step, *report[:4], images, data_ms)
        scalars = {"loss/sr": report.sr, "loss/kernel": report.kernel, "learning_rate": report.learning_rate,
                   "gradient_norm": report.gradient_norm, "rollbacks": self._run.rollbacks}
        if self._run.limit:
            scalars["minutes"] = self._run.minutes
        status = f"sr {report.sr:.4f}, kernel {report.kernel:.2e}, "
        if not math.isnan(images):
            scalars |= {"speed/images_per_s": images, "speed/data_ms": data_ms}
            status += f"{short_number(images)} images/s, data {data_ms:.1f} ms, "
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        memory = peak_memory(self._run.options.device)
        self._bar.set_postfix_str(f"{status}{memory / 2**30:.2f} GiB{self._time()}", refresh=False)

    def _time(self) -> str:
        """The minutes used and left, for a run by the clock."""
        limit = self._run.limit
        return f", {limit.used / 60:.1f} min used, {max(limit.left, 0) / 60:.1f} left" if limit else ""

    def _speed(self) -> tuple[float, float]:
        """Images per second and the milliseconds per step spent waiting for images, since the last row.

        Both are nan if no times are known.
        """
        steps, times, self._times = len(self._times), self._times, []
        if not steps:
            return math.nan, math.nan
        # The sum is 0 where the clock is too coarse.
        seconds = max(sum(step.seconds for step in times), 1e-9)
        waited = sum(step.waited for step in times)
        self._warn_if_data_bound(min(waited / seconds, 1))
        return steps * self._run.preset.training.batch / seconds, 1000 * waited / steps

    def write_scores(self, step: int, scores: Scores) -> None:
        """Log the figures and pictures of a validation."""
        if not self._run.processes.main:
            return
        self._writer.add_scalar("validation/psnr_y", scores.psnr, step)
        self._writer.add_scalar("validation/kernel_error", scores.kernel_error, step)
        for name, picture in scores.pictures.items():
            self._writer.add_image(name, picture, step, dataformats="HWC")
        self._scores.add(step, scores.psnr, scores.kernel_error)
        log.info("step %d: %.2f dB on Y%s", step, scores.psnr, self._time())

    def _warn_if_data_bound(self, share: float) -> None:
        """Warn once, and never about the first row, in which the workers have to start."""
        if share > DATA_BOUND and self._rows and not self._warned_data_bound:
            self._warned_data_bound = True
            log.warning("data-bound: %.0f %% of the time went by waiting for images; dan-fast pack, or more --workers, "
                        "help", 100 * share)
        self._rows += 1


def short_number(value: float) -> str:
    """Format ``value`` without an exponent.

    From 100 on it has no decimals, from 1 on one, below 1 two significant digits.
    """
    if not 0 < value < 1:
        return f"{value:.{0 if value >= 100 else 1}f}"
    return f"{value:.{1 - math.floor(math.log10(value))}f}"
