"""The training run: it learns, resumes exactly, survives divergence and Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_config
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dan_fast
from dan_fast.cli import main
from dan_fast.degradation.pipeline import Degradation
from dan_fast.errors import DanFastError
from dan_fast.training import loop
from dan_fast.training.guard import DivergenceGuard
from dan_fast.training.loop import Run, RunOptions, train
from dan_fast.training.presets import PRESETS, Preset, get_preset
from dan_fast.training.settings import TrainingSettings
from dan_fast.training.step import update_average

TINY = Preset(tiny_config(scale=2, iterations=2), Degradation(2, 21, (0.2, 2.0)),
              TrainingSettings(steps=12, batch=2, patch=16, learning_rate=1e-3, schedule="cosine", warmup=2,
                               short_until=0.5))


@pytest.fixture
def photos(tmp_path):
    """Smooth random pictures: white noise cannot be learned."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        small = np.random.default_rng(i).integers(0, 256, (9, 11, 3), np.uint8)
        Image.fromarray(small).resize((88, 72), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", TINY)


def options(out: Path, **changes) -> RunOptions:
    return RunOptions(**{"out": out, "device": torch.device("cpu"), "log_every": 1, "save_every": 4, **changes})


def scalars(folder: Path, tag: str = "loss/sr") -> dict[int, float]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {e.step: e.value for e in events.Scalars(tag)}


def test_schedules():
    halving = TrainingSettings(learning_rate=4e-4, halve_every=200_000)
    assert [halving.learning_rate_at(s) for s in (0, 199_999, 200_000, 799_999)] == [4e-4, 4e-4, 2e-4, 5e-5]
    cosine = TrainingSettings(steps=1000, learning_rate=1.0, schedule="cosine", warmup=10)
    assert cosine.learning_rate_at(0) == 0.1 and cosine.learning_rate_at(10) == 1
    assert cosine.learning_rate_at(505) == pytest.approx(0.5) and cosine.learning_rate_at(1000) == 0
    short = TrainingSettings(steps=100, short_until=0.5)
    assert [short.iterations_at(s, 4) for s in (0, 49, 50)] == [2, 2, 4] and short.iterations_at(0, 1) == 1
    with pytest.raises(DanFastError, match="batch"):
        TrainingSettings(batch=0)


def test_average_follows_the_weights(tiny_model):
    average = dan_fast.DAN(tiny_model.config)
    for step in range(200):
        update_average(average, tiny_model, 0.9, step)
    for a, b in zip(average.parameters(), tiny_model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_it_learns(photos, tmp_path):
    preset = replace(TINY, training=replace(TINY.training, steps=80, batch=4, learning_rate=3e-3, short_until=0))
    run = Run(preset, 0, options(tmp_path / "run"))
    assert train(run, [photos])
    values = list(scalars(tmp_path / "run").values())
    assert np.mean(values[-10:]) < 0.7 * np.mean(values[:10])
    assert dan_fast.load(tmp_path / "run" / "weights.safetensors", iterations=2).config == preset.config


def test_resume_gives_the_losses_of_an_unbroken_run(photos, tmp_path, monkeypatch):
    train(Run(TINY, 3, options(tmp_path / "whole")), [photos])
    half = Run(TINY, 3, options(tmp_path / "halves"))
    train_step = half.train_step

    def interrupt_the_sixth(hr):
        if half.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(hr)

    monkeypatch.setattr(half, "train_step", interrupt_the_sixth)
    assert train(half, [photos]) is False and half.step == 6
    assert train(Run.resume(options(tmp_path / "halves")), [photos])
    whole, halves = scalars(tmp_path / "whole"), scalars(tmp_path / "halves")
    assert list(whole) == list(range(1, 13)) and whole == halves
    a, b = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("whole", "halves"))
    assert all(torch.equal(a["average"][k], b["average"][k]) for k in a["average"])


def test_guard():
    guard = DivergenceGuard(patience=3)
    assert [guard.judge(x, 1.0) for x in (1.0, float("nan"), float("inf"), 1.0)] == ["ok", "skip", "skip", "ok"]
    assert [guard.judge(1.0, float("nan")) for _ in range(3)] == ["skip", "skip", "roll back"]
    assert {guard.judge(1.0, 1.0) for _ in range(300)} == {"ok"}
    # One bad batch is no collapse, a lasting rise is.
    assert guard.judge(50.0, 1.0) == "ok"
    assert "roll back" in [guard.judge(5.0, 1.0) for _ in range(300)]
    copy = DivergenceGuard()
    copy.load_state_dict(guard.state_dict())
    assert copy == guard


def test_nan_is_skipped_and_then_rolled_back(photos, tmp_path, monkeypatch, caplog):
    run = Run(TINY, 0, options(tmp_path / "run"))
    run.guard.patience = 3
    real, poisoned = loop.losses, range(5, 8)

    def poison(*args):
        loss = real(*args)
        return loop.Losses(loss.sr * float("nan"), loss.kernel) if run.step in poisoned else loss

    monkeypatch.setattr(loop, "losses", poison)
    with caplog.at_level("WARNING"):
        assert train(run, [photos])
    assert [r.message.split(":")[1].split("(")[0].strip() for r in caplog.records] == [
        "loss nan, gradient norm nan", "loss nan, gradient norm nan", "diverged"]
    assert "weights of step 4" in caplog.text and run.rollbacks == 1
    assert all(p.isfinite().all() for p in run.model.parameters())
    rates = scalars(tmp_path / "run", "learning_rate")
    assert rates[9] == pytest.approx(0.5 * TINY.training.learning_rate_at(8), rel=1e-5)


def test_a_run_that_always_diverges_ends_with_a_word(photos, tmp_path, monkeypatch):
    run = Run(replace(TINY, training=replace(TINY.training, steps=100)), 0, options(tmp_path / "run"))
    run.guard.patience = 1
    monkeypatch.setattr(loop, "losses", lambda model, *args: loop.Losses(
        next(model.parameters()).sum() * float("nan"), torch.zeros(())))
    with pytest.raises(DanFastError, match="learning rate"):
        train(run, [photos])


def test_gradient_through_all_iterations(photos, tmp_path):
    preset = replace(TINY, config=replace(TINY.config, gradient="all"))
    run = Run(preset, 0, options(tmp_path / "run"))
    assert train(run, [photos])
    assert dan_fast.load(tmp_path / "run" / "weights.safetensors").config.gradient == "all"


def test_v1_trains_on_the_code(photos, tmp_path):
    config = dan_fast.DANConfig(version="v1", scale=2, channels=16, blocks=1, estimator_channels=16,
                                estimator_blocks=1, iterations=2)
    assert train(Run(replace(TINY, config=config), 0, options(tmp_path / "run", bf16=True)), [photos])
    assert np.isfinite(list(scalars(tmp_path / "run", "loss/kernel").values())).all()


# The command


def command(*arguments) -> int:
    return main(["train", "--preset", "tiny", "--device", "cpu", *map(str, arguments)])


def test_command_trains_validates_and_resumes(photos, tmp_path):
    out = tmp_path / "run"
    common = ("--data", photos, "--val", photos, "--out", out, "--precision", "fp32")
    assert command(*common, "--validate-every", 6, "--steps", 6) == 0
    assert len(scalars(out, "validation/psnr_y")) == 1
    images = EventAccumulator(str(out))
    images.Reload()
    assert images.Tags()["images"]
    assert command(*common, "--resume", "--steps", 9) == 0
    assert torch.load(out / "state.pt", weights_only=True)["step"] == 9
    assert dan_fast.load(out / "weights.safetensors").config.scale == 2


def test_command_without_data_trains_on_the_samples(tmp_path):
    assert command("--out", tmp_path / "run", "--steps", 1) == 0


def test_command_says_what_is_wrong(photos, tmp_path, capsys):
    out = tmp_path / "run"
    good = ("--data", photos, "--val", photos, "--out", out, "--steps", 2)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    bad = [
        (("--data", tmp_path / "nowhere", "--out", out), "nowhere"),
        (("--resume", "--out", out), "no run"),
        (("--resume",), "--out"),
        ((*good, "--batch", 0), "batch"),
        ((*good, "--device", "gpu"), "gpu"),
        ((*good, "--preset", "v7"), "v7"),
        ((*good, "--workers", -1), "workers"),
        ((*good, "--save-every", 0), "save-every"),
        ((*good, "--val", tmp_path / "nothing"), "nothing"),
        (("--data", broken, "--out", out, "--workers", 1), "none of the 1 images"),
        (("--data", photos, "--val", photos, "--out", broken), "cannot write"),
    ]
    for arguments, word in bad:
        assert command(*arguments) == 2, arguments
        error = capsys.readouterr().err.strip().splitlines()
        assert word in error[-1] and error[-1].startswith("dan-fast train: error")
    assert not (out / "state.pt").exists()
    assert command(*good) == 0
    for arguments, word in [(good, "already"), ((*good, "--resume", "--batch", 5), "batch"),
                            ((*good, "--resume", "--seed", 9), "seed")]:
        assert command(*arguments) == 2
        assert word in capsys.readouterr().err
    (out / "state.pt").write_bytes(b"PK damaged")
    assert command(*good, "--resume") == 2
    with pytest.raises(SystemExit) as usage:
        command("--no-such-option")
    assert usage.value.code == 2


def test_interrupt_saves_and_resume_goes_on(photos, tmp_path):
    out = tmp_path / "run"
    arguments = [sys.executable, "-m", "dan_fast.train", "--data", str(photos), "--out", str(out), "--device", "cpu",
                 "--preset", "v2-0.3M-x2", "--batch", "1", "--patch", "16", "--steps", "100000", "--precision", "fp32"]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    while not (out / "state.pt").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.2)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "--resume" in error and "Traceback" not in error
    state = torch.load(out / "state.pt", weights_only=True)
    assert state["step"] > 0
    assert main(["train", "--resume", "--data", str(photos), "--val", str(photos), "--out", str(out), "--device", "cpu",
                 "--steps", str(state["step"] + 1)]) == 0


def test_presets_by_name():
    assert get_preset("v2-x4").config == dan_fast.DANConfig()
    assert get_preset("v2-irregular-x4").config.code_length == 15
    with pytest.raises(DanFastError, match="v2-x4"):
        get_preset("best")
