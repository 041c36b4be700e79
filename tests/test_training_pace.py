"""Images per second as they were, from the first report on: reports are read some steps late, the last ones at once.

A sleep takes at least as long as it says on every machine, so that each figure has a bound.
"""

from __future__ import annotations

import csv
import math
import re
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from test_training import TINY, options, photos  # noqa: F401  a fixture

from dan_fast.training.late import LateReader
from dan_fast.training.loop import train
from dan_fast.training.pace import Pace, in_words
from dan_fast.training.run import Run
from dan_fast.training.step import losses
from dan_fast.training.validation import Scores

STEP = 0.05  # seconds, at least
pytestmark = pytest.mark.usefixtures("one_thread")


def slow_loss(*arguments):
    time.sleep(STEP)
    return losses(*arguments)


def rows(out: Path) -> list[dict[str, float]]:
    with (out / "metrics.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def preset_of(steps: int):
    return replace(TINY, training=replace(TINY.training, steps=steps, batch=2))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("log_every", [1, 2, 3])
def test_from_the_first_report_on(photos, tmp_path, capfd, workers, log_every):  # noqa: F811
    run = Run(preset_of(6), 0, options(tmp_path / "run", workers=workers, log_every=log_every), loss=slow_loss)
    start = time.perf_counter()
    assert train(run, [photos])
    elapsed = time.perf_counter() - start
    found = rows(tmp_path / "run")
    assert [row["step"] for row in found] == list(range(log_every, 7, log_every))
    assert all(0 < row["images_per_s"] <= 2 / STEP for row in found)
    assert sum(log_every * 2 / row["images_per_s"] for row in found) <= elapsed
    assert all(0 <= row["data_ms"] <= 1000 * elapsed for row in found)
    shown = re.findall(r"([\d.e+]+) images/s", capfd.readouterr().err)
    assert shown and all("e" not in value and float(value) <= 2 / STEP + 1 for value in shown)


def test_validations_do_not_count(photos, tmp_path):  # noqa: F811
    """And the steps around them keep their own pace: a validation is 20 steps long here."""
    def validation(model, processes):
        time.sleep(20 * STEP)
        return Scores(30.0, 0.1, {})

    run = Run(preset_of(4), 0, options(tmp_path / "run", log_every=1, validate_every=2), loss=slow_loss)
    start = time.perf_counter()
    assert train(run, [photos], validation)
    counted = sum(2 / row["images_per_s"] for row in rows(tmp_path / "run"))
    assert 4 * STEP <= counted <= time.perf_counter() - start - 2 * 20 * STEP


def test_steps_of_an_earlier_process_do_not_count(photos, tmp_path):  # noqa: F811
    """What it had not read yet comes again, but at no speed."""
    run = Run(preset_of(6), 0, options(tmp_path / "run", log_every=1), loss=slow_loss)
    stopped = train(replace_steps(run, 3), [photos])
    assert stopped
    resumed = Run.resume(options(tmp_path / "run", log_every=1), loss=slow_loss)
    resumed.preset = preset_of(6)
    assert train(resumed, [photos])
    found = rows(tmp_path / "run")
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5, 6]
    assert all(math.isnan(row["images_per_s"]) or row["images_per_s"] <= 2 / STEP for row in found)
    assert not any(math.isnan(row["images_per_s"]) for row in found[3:])


def replace_steps(run: Run, steps: int) -> Run:
    run.preset = preset_of(steps)
    return run


def test_pace_knows_which_steps_waits_and_pauses_belong_to():
    pace = Pace(10, 4)
    batches = pace.waiting_for(iter([torch.zeros(1)] * 5))
    start = pace._finished
    for _ in range(5):
        next(batches)
    assert pace._taken == 15
    pace._waits = dict.fromkeys(range(11, 16), 0.1)
    pace._pauses = {12: 3.0}
    assert math.isnan(pace.until(10, start).images_per_s)  # of before
    speed = pace.until(12, start + 2.0)
    assert speed == pytest.approx((4.0, 100, 0.1))
    speed = pace.until(15, start + 2.0 + 3.0 + 1.0)  # the pause after step 12 is not its own
    assert speed == pytest.approx((12.0, 100, 0.3))


def test_late_reader_tells_when_a_step_was_done():
    reader = LateReader(2)
    for step in range(1, 4):
        reader.push(step, torch.zeros(1))
        time.sleep(0.01)
    before = time.perf_counter()
    times = [finished for _, _, finished in reader.late(0)]
    assert times == sorted(times) and times[-1] < before
    assert all(b - a >= 0.01 for a, b in pairwise(times))


@pytest.mark.parametrize("value, words", [
    (1.3, "1.3"), (1780.4, "1780"), (99.96, "100.0"), (83.42, "83.4"), (0.0234, "0.023"), (123456.7, "123457")])
def test_in_words(value, words):
    assert in_words(value) == f"{words} images/s"
