"""Training for minutes instead of steps.

Only the run itself moves the tests' clock, so that they do not depend on the speed of the machine. One test runs the
command for seconds of real time, with room for slow machines.
"""

import csv
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from support.networks import tiny_config

from dan_fast import cli
from dan_fast.cli import main
from dan_fast.degradation.pipeline import Degradation
from dan_fast.errors import DanFastError
from dan_fast.training import time_limit
from dan_fast.training.checkpoints import Checkpoints
from dan_fast.training.config_file import read_config, write_config
from dan_fast.training.delayed_reports import LAG
from dan_fast.training.loop import train
from dan_fast.training.presets import PRESETS, Preset
from dan_fast.training.processes import Processes
from dan_fast.training.run import Run, RunOptions
from dan_fast.training.settings import TrainingSettings
from dan_fast.training.step import Losses, losses
from dan_fast.training.time_limit import TimeLimit
from dan_fast.training.validation import FolderValidation, Scores

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
# Warm-up takes a tenth of the time, as 10 of 100 steps.
TINY = Preset(tiny_config(scale=2, iterations=3, kernel_size=5, code_length=4), Degradation(2, 5, (0.2, 2.0)),
              TrainingSettings(steps=100, minutes=1, batch=2, patch=8, learning_rate=1e-3, schedule="cosine", warmup=10,
                               ema=0.9))


class Clock:
    """A clock that shows what it is set to."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 44, 3), np.uint8)).save(folder / "a.png")
    return folder


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", TINY)


def options(out: Path, **changes) -> RunOptions:
    return RunOptions(**{"out": out, "device": CPU, "log_every": 1, "save_every": 10_000, **changes})


def preset(**changes) -> Preset:
    return replace(TINY, training=replace(TINY.training, **changes))


class Seconds:
    """Makes steps, saves and validations of a run take the given seconds of ``clock``; nothing else takes time."""

    def __init__(self, run: Run, clock: Clock, *, step: float = 1, save: float = 0, validation: float = 0) -> None:
        self.run, self.clock = run, clock
        self.iterations: list[int] = []
        self.saved: list[tuple[int, float]] = []  # step and time of the end
        self.validated: list[tuple[int, float]] = []
        self._step, self._validation = step, validation
        save_to_disk = run.save

        def slow(model, lr, hr, kernel, iterations):
            clock.time += step
            self.iterations.append(iterations)
            return losses(model, lr, hr, kernel, 1)

        def saving():
            clock.time += save
            save_to_disk()
            self.saved.append((run.step, clock.time))

        run.training_step.loss, run.save = slow, saving

    def validate(self, model, processes, must_give_up):
        """Validate on ten images."""
        for _ in range(10):
            if must_give_up():
                return None
            self.clock.time += self._validation / 10
        self.validated.append((self.run.step, self.clock.time))
        return Scores(20.0, 1.0, {})


def rates(out: Path) -> dict[int, float]:
    with open(out / "metrics.csv") as file:
        return {int(row["step"]): float(row["learning_rate"]) for row in csv.DictReader(file)}


def test_the_schedule_goes_by_the_share_of_the_time(photos, tmp_path, clock):
    run = Run(preset(short_until=0.5), 0, options(tmp_path / "run"))
    seconds = Seconds(run, clock, step=0.5)
    limit = TimeLimit(1, now=clock)
    assert train(run, [photos], limit=limit)
    # A minute less the two seconds reserved for the exit.
    assert run.step == 115 and clock.time - 1000 == 60 - time_limit.EXIT - 0.5
    assert run.minutes == pytest.approx(115 * 0.5 / 60)
    rate = rates(tmp_path / "run")
    assert list(rate) == list(range(1, 116))
    shares = np.arange(115) / 115
    expected = [TINY.training.learning_rate_at(100 * share) for share in shares]
    assert list(rate.values()) == pytest.approx(expected, abs=3e-5)
    assert rate[1] < 0.2e-3 and 11 < max(rate, key=rate.get) < 14
    assert max(rate.values()) == pytest.approx(1e-3, rel=1e-3)
    assert 0 <= rate[115] < 2e-6
    assert seconds.iterations == [2] * 58 + [3] * 57
    assert Checkpoints(tmp_path / "run/checkpoints").read()["step"] == 115


@pytest.mark.parametrize("step", [0.011, 0.7, 4.0])
@pytest.mark.parametrize("save", [0.0, 1.5])
def test_everything_is_saved_before_the_time_is_out(photos, tmp_path, clock, step, save, monkeypatch):
    run = Run(preset(minutes=0.5), 0, options(tmp_path / "run", save_every=7, validate_every=5))
    seconds = Seconds(run, clock, step=step, save=save, validation=1)
    if step < 0.1:
        monkeypatch.setattr(run.training_step, "loss", pretend(run, clock, step))
    clock.time += 3  # start-up
    limit = TimeLimit(0.5, 1000.0, now=clock)
    assert train(run, [photos], seconds.validate, limit)
    assert seconds.saved[-1][0] == run.step and (tmp_path / "run/weights.safetensors").exists()
    assert 1000 + 30 - 2 * step - 5 * save - 3 < seconds.saved[-1][1] <= clock.time < 1000 + 30 - 1
    assert seconds.validated[-1][0] == run.step  # its duration was known, so time was left for it
    assert rates(tmp_path / "run")[run.step] < 1e-3 * math.sin((2 * step + save) / 20) ** 2 + 1e-5


def pretend(run: Run, clock: Clock, step: float):
    """Return a loss that computes no images, for runs with many steps."""
    def loss(model, lr, hr, kernel, iterations):
        clock.time += step
        some = next(model.parameters()).sum()
        return Losses(some, some)

    return loss


def test_one_step_that_is_longer_than_the_time_is_still_saved(photos, tmp_path, clock):
    run = Run(preset(minutes=0.5), 0, options(tmp_path / "run"))
    seconds = Seconds(run, clock, step=40)
    assert train(run, [photos], seconds.validate, TimeLimit(0.5, now=clock))
    assert run.step == 1 and seconds.saved[-1][0] == 1 and not seconds.validated


def test_no_time_left_is_an_error(photos, tmp_path, clock):
    run = Run(preset(minutes=0.5), 0, options(tmp_path / "run"))
    clock.time += 29
    with pytest.raises(DanFastError, match=r"minutes=0.5: 29.0 s were over .* 2.0 s are kept .* expected more"):
        train(run, [photos], limit=TimeLimit(0.5, 1000.0, now=clock))


def test_a_validation_is_skipped_where_no_time_is_left(photos, tmp_path, clock, caplog):
    """It takes three seconds, and then the last step takes all the time reserved for it."""
    run = Run(TINY, 0, options(tmp_path / "run", validate_every=20))
    seconds = Seconds(run, clock, validation=3)
    loss = run.training_step.loss

    def slow_at_the_end(*args):
        if clock.time > 1000 + 60 - 2 - 3.75 - 2:
            clock.time += 3
        return loss(*args)

    run.training_step.loss = slow_at_the_end
    with caplog.at_level("INFO"):
        assert train(run, [photos], seconds.validate, TimeLimit(1, now=clock))
    assert "no time is left for a validation" in caplog.text
    assert [step for step, _ in seconds.validated] == [20, 40] and seconds.saved[-1][0] == run.step
    assert clock.time <= 1060


def test_a_validation_that_takes_too_long_gives_up(photos, tmp_path, clock, caplog):
    run = Run(TINY, 0, options(tmp_path / "run", validate_every=20))
    seconds = Seconds(run, clock, validation=30)
    assert train(run, [photos], seconds.validate, TimeLimit(1, now=clock))
    assert caplog.text.count("given up") == 1 and not seconds.validated
    assert run.step == 51 and 1057 <= clock.time <= 1058  # six of its thirty seconds were spent
    assert rates(tmp_path / "run")[51] < 1e-5


def test_a_folder_can_be_validated_in_part(photos, tiny_model):
    validation = FolderValidation(photos, 4, False)
    answers = iter([False, False, True])
    assert validation(tiny_model, Processes(), lambda: next(answers)) is None and next(answers, None) is None
    assert validation(tiny_model, Processes()).psnr > 0


def test_constant_and_then_a_tail(photos, tmp_path, clock):
    """As on a GPU that is lent for minutes: constant parts, and a last one in which the learning rate falls."""
    out = tmp_path / "run"
    first = Run(preset(schedule="constant", short_until=0.2), 0, options(out))
    seconds = Seconds(first, clock)
    assert train(first, [photos], limit=TimeLimit(1, now=clock))
    assert first.step == 57 and seconds.iterations.count(2) == 12
    rate = rates(out)
    assert [rate[step] for step in range(8, 58)] == pytest.approx([1e-3] * 50) and rate[2] < 5e-4
    second = Run.resume(options(out))
    assert second.step == 57 and not second.begins and second.minutes_before == pytest.approx(57 / 60)
    assert second.preset.training.schedule == "constant"
    second.preset = preset(schedule="cosine", short_until=0.2, minutes=0.5)
    seconds = Seconds(second, clock)
    assert train(second, [photos], limit=TimeLimit(0.5, now=clock))
    rate = rates(out)
    assert list(rate) == list(range(1, second.step + 1)) and second.step == 57 + 27
    assert rate[58] == pytest.approx(1e-3) and 0 <= rate[84] < 1e-5  # without another warm-up and short iterations
    assert set(seconds.iterations) == {3}
    falling = [rate[step] for step in range(58, 85)]
    assert falling == sorted(falling, reverse=True) and len(set(falling)) == 27
    assert Run.resume(options(out)).minutes_before == pytest.approx((57 + 27) / 60)


def test_halving_goes_over_the_time(photos, tmp_path, clock):
    run = Run(preset(schedule="halving", halve_every=25, warmup=0), 0, options(tmp_path / "run"))
    Seconds(run, clock)
    assert train(run, [photos], limit=TimeLimit(1, now=clock))
    rate = list(rates(tmp_path / "run").values())
    assert sorted(set(rate), reverse=True) == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4])
    assert all(abs(rate.count(value) - 14.5) <= 1.5 for value in set(rate))


def test_stopped_while_it_warms_up_it_warms_up_again(photos, tmp_path, clock):
    out = tmp_path / "run"
    run = Run(TINY, 0, options(out))
    loss = Seconds(run, clock).run.training_step.loss

    def stop_in_the_third(*args):
        if run.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(*args)

    run.training_step.loss = stop_in_the_third
    assert train(run, [photos], limit=TimeLimit(1, now=clock)) is False and run.step == 3
    again = Run.resume(options(out))
    assert again.begins and again.minutes_before == pytest.approx(3 / 60)
    Seconds(again, clock)
    assert train(again, [photos], limit=TimeLimit(1, now=clock))
    rate = rates(out)
    assert rate[4] == rate[1] < rate[5] and not Run.resume(options(out)).begins


def test_only_the_first_part_begins(clock):
    for anew in (True, False):
        limit = TimeLimit(1, now=clock)
        limit.begin(TINY.training, CPU, Processes(), anew=anew, validates=False)
        begun = [limit.begins]
        while not limit.tick():
            clock.time += 1
            begun.append(limit.begins)
        assert begun == sorted(begun, reverse=True) and len(begun) > 50
        assert begun[0] == begun[3] == anew and not begun[8]


def test_a_gpu_is_some_steps_behind(clock):
    """Its steps end after they are launched, and the first ones say nothing about how long others take."""
    ends = {}
    for device in ("cpu", "cuda"):
        clock.time = 0
        limit = TimeLimit(1, now=clock)
        limit.begin(TINY.training, torch.device(device), Processes(), anew=True, validates=False)
        for number in range(1000):
            clock.time += 5 if number < 3 else 0.5
            if limit.tick():
                break
        ends[device] = clock.time
    assert ends["cpu"] == pytest.approx(57.5, abs=0.01) and ends["cuda"] == pytest.approx(58 - 0.5 * (LAG + 2), abs=0.5)


def test_the_share_never_goes_back(clock):
    limit = TimeLimit(1, now=clock)
    limit.begin(TINY.training, CPU, Processes(), anew=True, validates=True)
    rng, shares = np.random.default_rng(), []
    while not limit.tick():
        shares.append(limit.share)
        clock.time += rng.uniform(0, 2)
        if rng.uniform() < 0.2:
            with limit.saving():
                clock.time += rng.uniform(0, 1)
        if rng.uniform() < 0.1 and limit.may_validate(False):
            with limit.validating():
                clock.time += rng.uniform(0, 2)
    assert shares == sorted(shares) and shares[0] == 0 and limit.share == 1
    with limit.saving():
        clock.time += 1
    assert limit.left > 0


def test_settings():
    assert TrainingSettings(schedule="constant", learning_rate=1.0, warmup=4).learning_rate_at(10**9) == 1
    for wrong in (-1, math.nan, math.inf):
        with pytest.raises(DanFastError, match="minutes="):
            TrainingSettings(minutes=wrong)
    with pytest.raises(DanFastError, match="'constant'"):
        TrainingSettings(schedule="linear")


# The command


def command(*arguments) -> int:
    return main(["train", "--preset", "tiny", "--device", "cpu", *map(str, arguments)])


@pytest.fixture
def patient(monkeypatch):
    """Lets runs of the command end after two steps, as if their minutes were over."""
    monkeypatch.setattr(TimeLimit, "tick", two_steps)


def two_steps(self: TimeLimit) -> bool:
    self.share += 0.5
    return self.share >= 1


@pytest.mark.usefixtures("patient")
def test_what_a_resumed_part_may_change(photos, tmp_path, capsys):
    out = tmp_path / "run"
    common = ("--data", photos, "--val", photos, "--out", out)
    go_on = ("--resume", *common)
    assert command(*common, "--minutes", 50, "--schedule", "constant") == 0
    assert read_config(out / "config.json")[0].training == replace(TINY.training, minutes=50, schedule="constant")
    assert command(*go_on) == 0  # with its own settings
    assert read_config(out / "config.json")[0].training == replace(TINY.training, minutes=50, schedule="constant")
    assert command(*go_on, "--minutes", 40, "--schedule", "cosine") == 0
    assert read_config(out / "config.json")[0].training == replace(TINY.training, minutes=40)
    assert "from step 4 on for 40 minutes" in capsys.readouterr().err
    assert command(*go_on, "--minutes", 40, "--learning-rate", 1) == 2
    assert "learning_rate=1.0: the run" in capsys.readouterr().err
    assert command(*go_on, "--minutes", 0, "--steps", 8) == 0  # by steps from here on
    assert Checkpoints(out / "checkpoints").read()["step"] == 8
    assert command(*go_on, "--schedule", "constant") == 2
    assert command(*go_on, "--minutes", "-1") == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == (
        "dan-fast train: error: minutes=-1.0: expected a positive number, or 0 to go by steps")


@pytest.mark.usefixtures("patient")
def test_warm_up_where_a_preset_has_none(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", preset(warmup=0, minutes=0))
    common = ("--data", photos, "--val", photos, "--resume", "auto")
    for name, more, warmup in (("a", ("--minutes", 50), 3), ("b", ("--minutes", 50, "--warmup", 0), 0),
                               ("c", ("--steps", 2), 0)):
        assert command(*common, "--out", tmp_path / name, *more) == 0
        assert read_config(tmp_path / name / "config.json")[0].training.warmup == warmup
        assert command(*common, "--out", tmp_path / name, "--minutes", 50) == 0  # goes on in each case
        assert read_config(tmp_path / name / "config.json")[0].training.warmup == warmup


def test_command_ends_in_its_minutes(photos, tmp_path):
    """The minutes include everything from the start of the process to its end."""
    write_config(tmp_path / "tiny.json", preset(minutes=0), 0)
    for minutes in (0.3, 1.2, 4):  # on a busy machine the start alone may take longer
        out = tmp_path / f"{minutes}"
        begin = time.monotonic()
        done = subprocess.run([
            sys.executable, "-m", "dan_fast.train", "--data", str(photos), "--val", str(photos), "--out", str(out),
            "--device", "cpu", "--log-every", "1", "--config", str(tmp_path / "tiny.json"), "--minutes", str(minutes)],
            stderr=subprocess.PIPE, text=True)
        wall = time.monotonic() - begin
        if "were over when training could begin" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr[-3000:]
    assert 60 * minutes / 2 < wall < 60 * minutes
    step, rate = Checkpoints(out / "checkpoints").read()["step"], rates(out)
    assert re.search(rf"step {step} after [\d.]+ of {minutes} minutes", done.stderr)
    assert re.search(r"\d\.\d min used, \d\.\d left", done.stderr)
    assert step > 10 and list(rate) == list(range(1, step + 1)) and rate[step] < 2e-4 < 0.9e-3 < max(rate.values())
    assert (out / "validation.csv").read_text().splitlines()[-1].startswith(f"{step},")


def test_time_counts_from_the_start_of_the_process(monkeypatch):
    age = cli.age_of_process()
    truth = time.time() - psutil.Process().create_time()
    assert truth - 1 <= age <= truth if truth < cli.LONGEST_START else age == 0
    for wrong in (-5, 10**6):
        monkeypatch.setattr(cli.time, "time", lambda wrong=wrong: psutil.Process().create_time() + wrong)
        assert cli.age_of_process() == 0
    monkeypatch.undo()
    seen = []
    monkeypatch.setattr("dan_fast.commands.train.run", lambda args: seen.append(args.started) or 0)
    monkeypatch.setattr(cli, "age_of_process", lambda: 100.0)
    before = time.monotonic()
    assert main(["train"]) == 0
    monkeypatch.setattr(sys, "argv", ["dan-fast", "train"])
    assert main() == 0
    assert before <= seen[0] <= time.monotonic() and seen[0] - 100 <= seen[1] <= time.monotonic() - 100
