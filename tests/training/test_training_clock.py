"""Images per second of a training run.

The bounds hold on every machine: a sleep takes at least its time, and no part of a run takes longer than the whole.
"""

import csv
import re
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import tiny_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dan_fast.degradation.pipeline import Degradation
from dan_fast.training import run as run_module
from dan_fast.training.checkpoints import Checkpoints
from dan_fast.training.clock import StepClock
from dan_fast.training.loop import train
from dan_fast.training.presets import Preset
from dan_fast.training.run import LAG, Run, RunOptions
from dan_fast.training.run_log import short_number
from dan_fast.training.settings import TrainingSettings
from dan_fast.training.step import losses
from dan_fast.training.validation import Scores

pytestmark = pytest.mark.usefixtures("one_thread")
BATCH, STEPS, SLEEP = 2, 6, 0.1
PRESET = Preset(tiny_config(scale=2, iterations=1, kernel_size=5, code_length=4), Degradation(2, 5, (0.2, 2.0)),
                TrainingSettings(steps=STEPS, batch=BATCH, patch=8))
CPU = torch.device("cpu")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(folder / "a.png")
    return folder


def slow(*args):
    time.sleep(SLEEP)
    return losses(*args)


def options(out, **changes) -> RunOptions:
    return RunOptions(**{"out": out, "device": CPU, "log_every": 1, "save_every": 100, **changes})


def rows(out) -> dict[int, tuple[float, float]]:
    """Return images per second and milliseconds of waiting by step, after a comparison with TensorBoard's."""
    with open(out / "metrics.csv") as file:
        found = {int(row["step"]): (float(row["images_per_s"]), float(row["data_ms"])) for row in csv.DictReader(file)}
    events = EventAccumulator(str(out))
    events.Reload()
    for column, tag in enumerate(("speed/images_per_s", "speed/data_ms")):
        logged = {event.step: event.value for event in events.Scalars(tag)}
        known = {step: row[column] for step, row in found.items() if not np.isnan(row[column])}
        assert logged == pytest.approx(known, rel=1e-5)
    return found


def seconds(found: dict[int, tuple[float, float]], steps: int = 1) -> float:
    """Return the seconds that the rows, of ``steps`` steps each, account for."""
    return sum(steps * BATCH / images for images, _ in found.values())


@pytest.mark.parametrize("workers", [0, 2])
def test_true_from_the_first_row_to_the_last(photos, tmp_path, capsys, workers):
    start = time.perf_counter()
    assert train(Run(PRESET, 0, options(tmp_path / "run", workers=workers), loss=slow), [photos])
    wall = time.perf_counter() - start
    found = rows(tmp_path / "run")
    assert list(found) == list(range(1, STEPS + 1))
    assert all(0 < images <= BATCH / SLEEP for images, _ in found.values())
    assert STEPS * SLEEP <= seconds(found) <= wall
    assert all(0 <= data_ms <= 1000 * wall for _, data_ms in found.values())
    shown = re.findall(r"(\S+) images/s", capsys.readouterr().err)
    assert shown and float(shown[-1]) <= BATCH / SLEEP and all(re.fullmatch(r"[\d.]+", figure) for figure in shown)


def test_a_row_of_several_steps(photos, tmp_path):
    preset = replace(PRESET, training=replace(PRESET.training, steps=7))
    start = time.perf_counter()
    assert train(Run(preset, 0, options(tmp_path / "run", log_every=3), loss=slow), [photos])
    wall = time.perf_counter() - start
    found = rows(tmp_path / "run")
    assert list(found) == [3, 6] and all(images <= BATCH / SLEEP for images, _ in found.values())
    assert 6 * SLEEP <= seconds(found, 3) <= wall - SLEEP


def test_validations_are_no_steps_time(photos, tmp_path):
    slept = []

    def validation(model, processes):
        time.sleep(4 * SLEEP)
        slept.append(4 * SLEEP)
        return Scores(20.0, 1.0, {})

    start = time.perf_counter()
    assert train(Run(PRESET, 0, options(tmp_path / "run", validate_every=1), loss=slow), [photos], validation)
    wall = time.perf_counter() - start
    found = rows(tmp_path / "run")
    assert len(slept) == STEPS
    assert all(images <= BATCH / SLEEP for images, _ in found.values())
    assert STEPS * SLEEP <= seconds(found) <= wall - sum(slept)


@pytest.mark.parametrize("saved_by", ["this version", "one that knew no times"])
def test_after_resume(photos, tmp_path, saved_by):
    """Steps from before, whose reports are read afterwards, count too."""
    out = tmp_path / "run"
    first = replace(PRESET, training=replace(PRESET.training, steps=STEPS + LAG))
    run = Run(first, 0, options(out, save_every=STEPS), loss=slow)

    def crash(loss, *args):
        if run.step == STEPS:
            raise RuntimeError("the process ends here")
        return slow(loss, *args)

    run.training_step.loss = crash
    start = time.perf_counter()
    with pytest.raises(RuntimeError, match="ends here"):
        train(run, [photos])
    checkpoints = Checkpoints(out / "checkpoints")
    state = checkpoints.read()
    assert list(state["times"]) == list(state["reports"]) == list(range(STEPS - LAG + 1, STEPS + 1))
    if saved_by != "this version":
        del state["times"]
        checkpoints.write(STEPS, state)
    time.sleep(5 * SLEEP)  # between the runs, so it counts for no step
    assert train(Run.resume(options(out), loss=slow), [photos])
    wall = time.perf_counter() - start
    found = rows(out)
    assert list(found) == list(range(1, STEPS + LAG + 1))
    unknown = {step for step, row in found.items() if np.isnan(row).all()}
    assert unknown == (set() if saved_by == "this version" else set(state["reports"]))
    known = {step: row for step, row in found.items() if step not in unknown}
    assert all(images <= BATCH / SLEEP for images, _ in known.values())
    assert len(known) * SLEEP <= seconds(known) <= wall - 5 * SLEEP


def test_after_a_roll_back(photos, tmp_path, monkeypatch):
    """Steps that were rolled back are not reported, and their time counts for no other step."""
    monkeypatch.setattr(run_module, "RECOVERY", 2)
    preset = replace(PRESET, training=replace(PRESET.training, steps=14))
    run = Run(preset, 0, options(tmp_path / "run", save_every=2))

    def poisoned(*args):
        loss = slow(*args)
        return loss._replace(sr=loss.sr * float("nan")) if run.step in (4, 5) else loss

    run.training_step.loss, run.training_step.guard.patience = poisoned, 2
    start = time.perf_counter()
    assert train(run, [photos])
    wall = time.perf_counter() - start
    found = rows(tmp_path / "run")
    assert list(found) == [*range(1, 7), *range(7 + LAG, 15)]
    assert all(images <= BATCH / SLEEP for images, _ in found.values())
    assert len(found) * SLEEP <= seconds(found) <= wall - LAG * SLEEP


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpus_steps_do_not_end_where_reports_are_read(photos, tmp_path):
    """Checkpoints and validations let the GPU catch up with the steps that were launched ahead."""
    def validation(model, processes):
        time.sleep(SLEEP)
        return Scores(20.0, 1.0, {})

    preset = replace(PRESET, training=replace(PRESET.training, steps=40))
    run = Run(preset, 0, options(tmp_path / "run", device=torch.device("cuda"), save_every=3, validate_every=8))
    start = time.perf_counter()
    assert train(run, [photos], validation)
    wall = time.perf_counter() - start
    found = rows(tmp_path / "run")
    assert all(0 < images < BATCH / 1e-5 for images, _ in found.values())  # no network learns in 10 microseconds
    assert seconds(found) <= 1.01 * wall - 5 * SLEEP  # two clocks


def test_waiting_for_images():
    clock = StepClock(CPU)

    def batches():
        for _ in range(2):
            time.sleep(SLEEP)
            yield torch.zeros(1)

    times = []
    for _ in clock.waiting_for(batches()):
        with clock.paused():
            time.sleep(SLEEP)
        times.append(clock.step_ended().read())
    assert len(times) == 2
    assert all(SLEEP <= one.waited <= one.seconds for one in times)


@pytest.mark.parametrize(("value", "text"), [
    (1.3333, "1.3"), (1780.4, "1780"), (123456.7, "123457"), (83.42, "83.4"), (0.0346, "0.035"), (99.96, "100.0"),
    (1e-5, "0.000010"), (0.0, "0.0")])
def test_figures_are_written_plainly(value, text):
    assert short_number(value) == text
