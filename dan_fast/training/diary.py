"""What a run tells while it runs: progress bar, ``metrics.csv``, ``validation.csv``, TensorBoard."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..devices import peak_memory
from ..files import write_atomically
from .run import Run
from .step import Report
from .validation import Scores

METRICS = ("step", "sr", "kernel", "gradient_norm", "learning_rate", "images_per_s", "data_ms")
SCORES = ("step", "psnr_y", "kernel_error")
# Waiting for images longer than this share of the time is worth a word.
DATA_BOUND = 0.2
log = logging.getLogger("dan_fast.train")


class Table:
    """A CSV file that grows by rows with ``step`` first; what an earlier run wrote from ``step`` on is cut off."""

    def __init__(self, path: Path, columns: tuple[str, ...], step: int) -> None:
        kept = []
        if path.is_file():
            rows = list(csv.reader(path.read_text().splitlines()))
            # A run that was killed may have left half a row.
            kept = [row for row in rows[1:] if len(row) == len(columns) and row[0].isdigit() and int(row[0]) < step]
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([columns, *kept])
        write_atomically(path, buffer.getvalue().encode())
        self._file = open(path, "a", newline="")  # noqa: SIM115  closed by close()
        self._writer = csv.writer(self._file, lineterminator="\n")

    def add(self, *row: float) -> None:
        self._writer.writerow([value if isinstance(value, int) else f"{value:.9g}" for value in row])
        self._file.flush()

    def close(self) -> None:
        self._file.close()


class Diary:
    """Of ``run`` from where it is, in its folder. Only the main process writes and shows anything."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._waited = 0.0
        self._lines = 0
        self._said_data_bound = False

    def __enter__(self) -> Diary:
        run, main = self._run, self._run.processes.main
        # Reports that were not read before the checkpoint come again.
        first = min([*run.reader.state_dict(), run.step + 1])
        self._bar = tqdm(initial=first - 1, total=run.preset.training.steps, unit="step", dynamic_ncols=True,
                         smoothing=0.05, disable=not main)
        self._step, self._since = first - 1, time.perf_counter()
        if main:
            out = run.options.out
            self._writer = SummaryWriter(str(out), purge_step=first)
            self._metrics = Table(out / "metrics.csv", METRICS, first)
            self._scores = Table(out / "validation.csv", SCORES, run.step + 1)
        return self

    def __exit__(self, *exception) -> None:
        self._bar.close()
        if self._run.processes.main:
            for open_one in (self._writer, self._metrics, self._scores):
                open_one.close()

    def waiting_for(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """``batches``; the time until each is there counts as waiting."""
        source = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(source, None)
            self._waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    @contextmanager
    def not_counting(self) -> Iterator[None]:
        """What is done inside is no step's time."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def write(self, step: int, report: Report) -> None:
        """One step's report; every ``log_every``th is written down."""
        self._bar.update(step - self._bar.n)
        if step % self._run.options.log_every or not self._run.processes.main:
            return
        now, steps = time.perf_counter(), max(step - self._step, 1)
        seconds = max(now - self._since, 1e-9)
        images = steps * self._run.preset.training.batch / seconds
        data_ms = 1000 * self._waited / steps
        self._warn_if_data_bound(self._waited / seconds)
        self._step, self._since, self._waited = step, now, 0.0

        self._metrics.add(step, *report[:4], images, data_ms)
        scalars = {"loss/sr": report.sr, "loss/kernel": report.kernel, "learning_rate": report.learning_rate,
                   "gradient_norm": report.gradient_norm, "rollbacks": self._run.rollbacks,
                   "speed/images_per_s": images, "speed/data_ms": data_ms}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)
        memory = peak_memory(self._run.options.device)
        self._bar.set_postfix_str(f"sr {report.sr:.4f}, kernel {report.kernel:.2e}, {images:.3g} images/s, "
                                  f"data {data_ms:.1f} ms, {memory / 2**30:.2f} GiB", refresh=False)

    def write_scores(self, step: int, scores: Scores) -> None:
        """A validation's figures and pictures."""
        if not self._run.processes.main:
            return
        self._writer.add_scalar("validation/psnr_y", scores.psnr, step)
        self._writer.add_scalar("validation/kernel_error", scores.kernel_error, step)
        for name, picture in scores.pictures.items():
            self._writer.add_image(name, picture, step, dataformats="HWC")
        self._scores.add(step, scores.psnr, scores.kernel_error)
        log.info("step %d: %.2f dB on Y", step, scores.psnr)

    def _warn_if_data_bound(self, share: float) -> None:
        """Once; and not of the first steps, for which the workers must start."""
        if share > DATA_BOUND and self._lines and not self._said_data_bound:
            self._said_data_bound = True
            log.warning("data-bound: %.0f %% of the time went by waiting for images; dan-fast pack, or more --workers, "
                        "help", 100 * share)
        self._lines += 1
