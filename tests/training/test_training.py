"""The training run: it learns, resumes exactly, survives divergence and Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import REFINER, tiny_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dan_fast
from dan_fast.cli import main
from dan_fast.config import field_help
from dan_fast.degradation.pipeline import Degradation
from dan_fast.errors import DanFastError
from dan_fast.training import run as run_module
from dan_fast.training import run_log
from dan_fast.training import step as step_module
from dan_fast.training.checkpoints import Checkpoints
from dan_fast.training.config_file import read_config, write_config
from dan_fast.training.loop import train
from dan_fast.training.presets import PRESETS, Preset, get_preset
from dan_fast.training.run import LAG, Run, RunOptions
from dan_fast.training.settings import TrainingSettings

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = Preset(tiny_config(scale=2, iterations=2), Degradation(2, 21, (0.2, 2.0)),
              TrainingSettings(steps=12, batch=2, patch=16, learning_rate=1e-3, schedule="cosine", warmup=2,
                               short_until=0.5))


@pytest.fixture
def photos(tmp_path):
    """A folder of smooth random pictures; no network learns white noise."""
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


def test_it_learns(photos, tmp_path):
    preset = replace(TINY, training=replace(TINY.training, steps=80, batch=4, learning_rate=3e-3, short_until=0))
    run = Run(preset, 0, options(tmp_path / "run"))
    assert train(run, [photos])
    values = list(scalars(tmp_path / "run").values())
    assert np.mean(values[-10:]) < 0.7 * np.mean(values[:10])
    assert dan_fast.load(tmp_path / "run" / "weights.safetensors").config == preset.config


def test_it_starts_from_other_weights(photos, tmp_path, capsys):
    source = dan_fast.DAN(tiny_config(scale=4)).eval()
    dan_fast.save(source, tmp_path / "x4.safetensors")
    common = ["train", "--preset", "tiny", "--steps", "1", "--data", str(photos), "--val", str(photos)]
    assert main([*common, "--out", str(tmp_path / "run"), "--init", str(tmp_path / "x4.safetensors")]) == 0
    run = Run(TINY, 0, options(tmp_path / "other"))
    anew = run.start_from(source)
    for model in (run.model, run.average):
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, source.state_dict()[name]) != (name in anew)
    assert any(name.startswith("Restorer.upscale") for name in anew)
    assert any(name.startswith("Estimator.head_HR") for name in anew) and "encoder" not in anew
    with pytest.raises(DanFastError, match="no tensor"):
        run.start_from(dan_fast.DAN(tiny_config(version="v1", groups=0, channels=32, estimator_channels=32, scale=4,
                                                kernel_size=11, code_length=4)))
    assert main([*common, "--out", str(tmp_path / "x"), "--init", "no-such-weights"]) == 2
    assert main([*common, "--out", str(tmp_path / "x"), "--val", str(tmp_path / "x4.safetensors")]) == 2
    assert "x4.safetensors" in capsys.readouterr().err and not (tmp_path / "x").exists()
    assert main([*common, "--out", str(tmp_path / "run"), "--resume", "--init", "default"]) == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_only_the_refiner_learns(photos, tmp_path, precision, capsys):
    preset = replace(TINY, config=replace(TINY.config, **REFINER),
                     training=replace(TINY.training, learns="refiner", steps=40, batch=4, learning_rate=3e-3))
    write_config(tmp_path / "refiner.json", preset, 0)
    source = dan_fast.DAN(TINY.config).eval()
    dan_fast.save(source, tmp_path / "source.safetensors")
    arguments = ["train", "--config", str(tmp_path / "refiner.json"), "--data", str(photos), "--val", str(photos),
                 "--out", str(tmp_path / "run"), "--device", "cpu", "--precision", precision, "--log-every", "1"]
    assert main([*arguments, "--init", str(tmp_path / "source.safetensors")]) == 0
    assert "source.safetensors; anew: all of Refiner\n" in capsys.readouterr().err
    trained, fresh = dan_fast.load(tmp_path / "run" / "weights.safetensors"), dan_fast.DAN(preset.config)
    for name, tensor in trained.state_dict().items():
        if not name.startswith("Refiner"):
            assert torch.equal(tensor, source.state_dict()[name]), name
    assert trained.Refiner.upscale[0].weight.abs().max() > 0 == fresh.Refiner.upscale[0].weight.abs().max()
    values = list(scalars(tmp_path / "run").values())
    assert np.mean(values[-10:]) < np.mean(values[:10])
    # The kernel's error is that of the modules that do not learn.
    assert min(scalars(tmp_path / "run", "loss/kernel").values()) > 0
    # Saved and resumed: still only the Refiner.
    assert main([*arguments, "--resume", "--steps", "42"]) == 0
    resumed = dan_fast.load(tmp_path / "run" / "weights.safetensors")
    assert torch.equal(resumed.Restorer.fusion.weight, source.Restorer.fusion.weight)
    assert not torch.equal(resumed.Refiner.fusion.weight, trained.Refiner.fusion.weight)


def test_what_does_not_exist_cannot_learn(photos, tmp_path, capsys):
    with pytest.raises(DanFastError, match="learns='refiner': the network has no Refiner"):
        Run(replace(TINY, training=replace(TINY.training, learns="refiner")), 0, options(tmp_path / "run"))
    with pytest.raises(DanFastError, match="learns='estimator': expected 'all' or 'refiner'"):
        TrainingSettings(learns="estimator")


def test_what_is_frozen_is_not_random(photos, tmp_path, capsys):
    preset = replace(TINY, config=replace(TINY.config, **REFINER), training=replace(TINY.training, learns="refiner"))
    write_config(tmp_path / "refiner.json", preset, 0)
    dan_fast.save(dan_fast.DAN(tiny_config(scale=4)), tmp_path / "x4.safetensors")
    arguments = ["train", "--config", str(tmp_path / "refiner.json"), "--data", str(photos), "--val", str(photos)]
    for init in ([], ["--init", str(tmp_path / "x4.safetensors")]):
        assert main([*arguments, "--out", str(tmp_path / "run"), *init]) == 2
        assert "tensors are random, such as" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_resume_gives_the_losses_of_an_unbroken_run(photos, tmp_path, monkeypatch):
    train(Run(TINY, 3, options(tmp_path / "whole")), [photos])
    half = Run(TINY, 3, options(tmp_path / "halves"))
    train_on = half.train_on

    def interrupt_the_sixth(hr, stop):
        if half.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return train_on(hr, stop)

    monkeypatch.setattr(half, "train_on", interrupt_the_sixth)
    assert train(half, [photos]) is False and half.step == 6
    again = Run.resume(options(tmp_path / "halves"))
    assert list(again.delayed_reports.state_dict()) == [3, 4, 5, 6]  # computed but not yet read
    assert train(again, [photos])
    whole, halves = scalars(tmp_path / "whole"), scalars(tmp_path / "halves")
    assert list(whole) == list(range(1, 13)) and whole == halves
    a, b = (Run.resume(options(tmp_path / name)).average.state_dict() for name in ("whole", "halves"))
    assert all(torch.equal(a[k], b[k]) for k in a)
    tables = [[row.split(",")[:5] for row in (tmp_path / name / "metrics.csv").read_text().splitlines()]
              for name in ("whole", "halves")]
    assert tables[0] == tables[1] and len(tables[0]) == 13


def poison(monkeypatch, run: Run, steps: range, factor: float) -> None:
    """Multiply the image's loss by ``factor`` in ``steps``, counted from 0."""
    real = step_module.losses

    def poisoned(*args, **keywords):
        loss = real(*args, **keywords)
        return loss._replace(sr=loss.sr * factor) if run.step in steps else loss

    monkeypatch.setattr(step_module, "losses", poisoned)


def test_nan_is_skipped_and_then_rolled_back(photos, tmp_path, monkeypatch, caplog):
    preset = replace(TINY, training=replace(TINY.training, steps=24))
    monkeypatch.setattr(run_module, "RECOVERY", 6)
    run = Run(preset, 0, options(tmp_path / "run"))
    run.training_step.guard.patience = 3
    poison(monkeypatch, run, range(5, 8), float("nan"))
    with caplog.at_level("INFO"):
        assert train(run, [photos])
    messages = [r.message for r in caplog.records if "step" in r.message and "steps" not in r.message]
    assert [m.split(":")[0] for m in messages] == [
        "step 6", "step 7",
        "training diverged in step 8 (loss nan and " + messages[2].split("and ")[1].split(")")[0] + ")",
        "step 18"]
    # Read LAG steps later, at step 12. The newest checkpoint is then that of step 8, with the weights of step 5.
    assert "back to the weights of step 8, learning rate halved until step 18" in messages[2]
    assert "as scheduled again" in messages[3] and run.rollbacks == 0
    assert all(p.isfinite().all() for p in run.model.parameters())
    rates = scalars(tmp_path / "run", "learning_rate")
    assert not set(rates) & set(range(9, 9 + LAG))  # their updates were skipped, so they have no reports
    schedule = [preset.training.learning_rate_at(step) for step in range(24)]
    assert rates[13] == pytest.approx(0.5 * schedule[12], rel=1e-5)
    assert rates[18] == pytest.approx(0.5 * schedule[17], rel=1e-5)
    assert rates[24] == pytest.approx(schedule[23], rel=1e-5)


def test_a_bad_step_changes_nothing(photos, tmp_path, monkeypatch):
    run = Run(TINY, 0, options(tmp_path / "run"))
    poison(monkeypatch, run, range(1, 2), float("inf"))
    hr, step = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), run.training_step

    def state() -> dict[str, torch.Tensor]:
        return {"weights": step.weights.values, "average": step.averaged.values, **step.moments}

    run.train_on(hr)
    before = {name: tensor.clone() for name, tensor in state().items()}
    run.train_on(hr)
    assert all(torch.equal(before[name], tensor) for name, tensor in state().items())
    run.train_on(hr)
    assert not torch.equal(before["weights"], step.weights.values) and step.moments["step"] == 2


def test_a_poisoned_batch_is_skipped(photos, tmp_path, monkeypatch, caplog):
    preset = replace(TINY, training=replace(TINY.training, steps=110))
    run = Run(preset, 0, options(tmp_path / "run"))
    poison(monkeypatch, run, range(104, 105), 1e3)
    with caplog.at_level("WARNING"):
        assert train(run, [photos])
    assert [r.message.split(":")[0] for r in caplog.records if "skipped" in r.message] == ["step 105"]
    assert run.rollbacks == 0


def test_each_roll_back_in_a_row_goes_further_back(photos, tmp_path, monkeypatch, caplog):
    run = Run(replace(TINY, training=replace(TINY.training, steps=100)), 0, options(tmp_path / "run", save_every=3))
    run.training_step.guard.patience = 1
    poison(monkeypatch, run, range(9, 100), float("nan"))
    with caplog.at_level("WARNING"), pytest.raises(DanFastError, match="6th time in a row; a lower learning rate"):
        train(run, [photos])
    back = [int(r.message.split("weights of step ")[1].split(",")[0]) for r in caplog.records if "back to" in r.message]
    assert back[0] == 12 and back[1] == 15 and len(back) == run_module.MAX_ROLLBACKS
    assert run.rollbacks == run_module.MAX_ROLLBACKS


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
    assert Checkpoints(out / "checkpoints").read()["step"] == 9
    assert dan_fast.load(out / "weights.safetensors").config.scale == 2


def test_command_shows_how_it_goes(tmp_path, capsys, monkeypatch):
    """Without --data it trains on the photos that ship."""
    out = tmp_path / "run"
    monkeypatch.setattr(run_log, "DATA_BOUND", 0.0)
    images = sorted(dan_fast.files.SAMPLES.glob("*.png"))
    few = tmp_path / "few"
    few.mkdir()
    Image.open(images[0]).crop((0, 0, 64, 48)).save(few / "a.png")
    assert command("--out", out, "--steps", 11, "--val", few, "--validate-every", 5, "--log-every", 5, "--profile") == 0
    output = capsys.readouterr().err
    table = [row.split(",") for row in (out / "metrics.csv").read_text().splitlines()]
    assert table[0] == ["step", "sr", "kernel", "gradient_norm", "learning_rate", "images_per_s", "data_ms"]
    assert [row[0] for row in table[1:]] == ["5", "10"] and all(float(v) >= 0 for row in table[1:] for v in row)
    scores = [row.split(",") for row in (out / "validation.csv").read_text().splitlines()]
    assert scores[0] == ["step", "psnr_y", "kernel_error"] and [row[0] for row in scores[1:]] == ["5", "10", "11"]
    tags = EventAccumulator(str(out))
    tags.Reload()
    assert {"sample/a.png", "kernel/a.png"} <= set(tags.Tags()["images"])
    assert {"loss/sr", "loss/kernel", "learning_rate", "gradient_norm", "validation/psnr_y", "speed/images_per_s",
            "speed/data_ms"} <= set(tags.Tags()["scalars"])
    names = {event.get("name") for event in json.loads((out / "trace.json").read_text())["traceEvents"]}
    assert {"degradation", "first iterations", "forward", "backward", "update"} <= names
    assert f"dan-fast upscale PHOTO -o FOLDER --weights {out / 'weights.safetensors'}" in output
    assert "ms a step on the CPU: degradation" in output and output.count("data-bound: ") == 1
    best = max(range(1, 4), key=lambda i: float(scores[i][1]))
    assert ("the best validation" in output) == (best != 3)
    assert dan_fast.load(out / "best.safetensors").config == dan_fast.load(out / "weights.safetensors").config


def test_every_field_has_its_help(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for kind, prefix in ((TrainingSettings, "--"), (dan_fast.DANConfig, "config."), (Degradation, "degradation.")):
        texts = field_help(kind)
        for field in fields(kind):
            assert len(texts[field.name]) > 5
            assert (f"--{field.name.replace('_', '-')} " if prefix == "--" else f"{prefix}{field.name}: ") in text


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
    assert not (out / "checkpoints").exists()
    assert command(*good) == 0
    for arguments, word in [(good, "already"), ((*good, "--resume", "--batch", 5), "batch"),
                            ((*good, "--resume", "--seed", 9), "seed")]:
        assert command(*arguments) == 2
        assert word in capsys.readouterr().err
    with pytest.raises(SystemExit) as usage:
        command("--no-such-option")
    assert usage.value.code == 2


def test_interrupt_saves_and_resume_goes_on(photos, tmp_path):
    out = tmp_path / "run"
    write_config(tmp_path / "tiny.json", TINY, 0)
    arguments = [sys.executable, "-m", "dan_fast.train", "--data", str(photos), "--out", str(out), "--device", "cpu",
                 "--config", str(tmp_path / "tiny.json"), "--steps", "100000", "--log-every", "1"]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    metrics = out / "metrics.csv"
    while not metrics.exists() or metrics.read_text().count("\n") < 2:  # until it has taken a step
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 130 and "--resume" in error and "Traceback" not in error
    state = Checkpoints(out / "checkpoints").read()
    assert state["step"] > 0
    assert main(["train", "--resume", "--data", str(photos), "--val", str(photos), "--out", str(out), "--device", "cpu",
                 "--steps", str(state["step"] + 1)]) == 0


def test_presets_are_the_papers(tmp_path):
    for scale in (2, 3, 4):
        for version, steps, halve in (("v1", 400_000, 200_000), ("v2", 800_000, 200_000)):
            preset = get_preset(f"{version}-x{scale}")
            assert preset.config == dan_fast.DANConfig(version=version, scale=scale)
            assert preset.degradation == Degradation(scale, 21, (0.2, float(scale)))
            assert preset.training == TrainingSettings(
                steps=steps, batch=64, patch=64, learning_rate=4e-4, schedule="halving", halve_every=halve)
            write_config(tmp_path / "config.json", preset, 1)
            assert read_config(tmp_path / "config.json") == (preset, 1)
    for scale, size, length in ((2, 11, 10), (4, 31, 15)):
        for version in ("v1", "v2"):
            preset = get_preset(f"{version}-irregular-x{scale}")
            assert (preset.config.kernel_size, preset.config.code_length) == (size, length)
            assert preset.degradation == Degradation(scale, size, (0.6, 5.0), irregular=True, disturbance=0.25)


def test_presets_by_name():
    assert get_preset("v2-x4").config == dan_fast.DANConfig()
    assert get_preset("v2-irregular-x4").config.code_length == 15
    with pytest.raises(DanFastError, match="v2-x4"):
        get_preset("best")
