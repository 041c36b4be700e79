"""A run survives being killed, checkpoints that are cut short and full disks, and logs what happened."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.networks import tiny_config

from dan_fast.cli import main
from dan_fast.degradation.pipeline import Degradation
from dan_fast.errors import DanFastError
from dan_fast.training.checkpoints import KEEP, Checkpoints, code_revision
from dan_fast.training.config_file import read_config, write_config
from dan_fast.training.loop import train
from dan_fast.training.presets import PRESETS, Preset
from dan_fast.training.run import Run, RunOptions
from dan_fast.training.settings import TrainingSettings

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = Preset(tiny_config(scale=2, iterations=2, kernel_size=5), Degradation(2, 5, (0.2, 2.0)),
              TrainingSettings(steps=12, batch=2, patch=8, learning_rate=1e-3))


@pytest.fixture
def photo(tmp_path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def options(out: Path, **changes) -> RunOptions:
    return RunOptions(**{"out": out, "device": torch.device("cpu"), "log_every": 1, "save_every": 2, **changes})


def figures(out: Path) -> list[list[str]]:
    """Return the columns of metrics.csv that do not depend on time."""
    return [line.split(",")[:5] for line in (out / "metrics.csv").read_text().splitlines()]


# Forks runs from a process that has imported everything. Each is killed some steps and a moment after it has begun to
# report; the last one may end. How far a run comes does not depend on the speed of the machine.
KILLER = """
import json, os, signal, sys, time
import torch
from dan_fast.cli import main
import dan_fast.commands.train, torch._dynamo, torch.utils.tensorboard  # what a run imports when it begins
torch.set_num_threads(1)
arguments, out, moments = json.loads(sys.argv[1])
metrics = os.path.join(out, "metrics.csv")

def reports():
    with open(metrics, "rb") as file:
        return file.read().count(b"\\n")

def running(child):
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

for moment in [*moments, None]:
    before = os.stat(metrics).st_mtime_ns if os.path.exists(metrics) else 0
    child = os.fork()
    if child == 0:
        os._exit(main(arguments))
    if moment is None:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    steps, wait = moment
    while running(child) and (not os.path.exists(metrics) or os.stat(metrics).st_mtime_ns == before):
        time.sleep(0.002)
    goal = reports() + steps
    while running(child) and reports() < goal:
        time.sleep(0.002)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) in (-signal.SIGKILL, 0)
"""


def test_killed_at_20_random_moments_it_ends_with_the_losses_of_an_unbroken_run(photo, tmp_path):
    preset = replace(TINY, training=replace(TINY.training, steps=150))
    write_config(tmp_path / "tiny.json", preset, 7)
    common = ["train", "--config", str(tmp_path / "tiny.json"), "--data", str(photo), "--val", str(photo), "--device",
              "cpu", "--precision", "fp32", "--log-every", "1", "--save-every", "3", "--validate-every", "1000"]
    assert main([*common, "--out", str(tmp_path / "whole")]) == 0
    out = tmp_path / "killed"
    rng = random.Random()
    moments = [(rng.randrange(8), rng.uniform(0, 0.05)) for _ in range(20)]
    call = json.dumps([[*common, "--out", str(out), "--resume", "auto"], str(out), moments])
    done = subprocess.run([sys.executable, "-c", KILLER, call], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 0 < done.stderr.count("steps 0 to 150") < 15  # it was resumed
    assert figures(out) == figures(tmp_path / "whole") and len(figures(out)) == 151
    a, b = (Checkpoints(folder / "checkpoints").read()["step_state"] for folder in (out, tmp_path / "whole"))
    for part in ("model", "average", "optimizer", "guard"):
        assert all(torch.equal(a[part][name], b[part][name]) for name in a[part])


def test_the_last_checkpoints_stay_and_tell_where_they_come_from(photo, tmp_path):
    train(Run(TINY, 3, options(tmp_path / "run")), [photo])
    kept = Checkpoints(tmp_path / "run/checkpoints")
    assert [path.name for path in kept.newest_first()] == [f"step-{s:09d}.pt" for s in (12, 10, 8)][:KEEP]
    state = kept.read()
    assert state["seed"] == 3 and state["code"] == code_revision() and "generator" in state
    assert kept.read(skip=1)["step"] == 10 and kept.read(skip=99)["step"] == 8
    assert not list((tmp_path / "run").rglob(".*"))  # no temporary file


@pytest.mark.parametrize("damage", ["cut short", "empty", "one byte changed"])
def test_a_damaged_checkpoint_is_passed_over_with_a_word(photo, tmp_path, caplog, damage):
    run = Run(TINY, 0, options(tmp_path / "whole"))
    train(run, [photo])
    stopped = Run(TINY, 0, options(tmp_path / "run"))
    for step in range(6):
        stopped.train_on(torch.full((2, 3, 16, 16), 20 * step, dtype=torch.uint8))
        if stopped.step % 2 == 0:
            stopped.save()
    newest = stopped.checkpoints.newest_first()[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"cut short": content[:-1000], "empty": b"", "one byte changed": content}[damage])
    with caplog.at_level("WARNING"):
        assert Run.resume(options(tmp_path / "run")).step == 4
    assert newest.name in caplog.text and "damaged" in caplog.text
    for path in stopped.checkpoints.newest_first():
        path.write_bytes(b"PK damaged")
    with pytest.raises(DanFastError, match="none of the checkpoints can be read"):
        Run.resume(options(tmp_path / "run"))


def test_other_code_is_told(photo, tmp_path, monkeypatch, caplog):
    Run(TINY, 0, options(tmp_path / "run")).save()
    monkeypatch.setattr("dan_fast.training.run.code_revision", lambda: "9.9")
    with caplog.at_level("WARNING"):
        Run.resume(options(tmp_path / "run"))
    assert "this is 9.9" in caplog.text


def test_a_full_disk_ends_the_run_with_a_word_and_keeps_the_checkpoint_before(photo, tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    run = Run(TINY, 0, options(tmp_path / "run"))
    train_on = run.train_on
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full_from_step_5(hr, stop):
        if run.step == 5:  # only half of a checkpoint fits
            size = run.checkpoints.newest_first()[0].stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
        train_on(hr, stop)

    monkeypatch.setattr(run, "train_on", full_from_step_5)
    try:
        with pytest.raises(DanFastError, match=r"cannot write \(File too large\); step-000000004\.pt is kept"):
            train(run, [photo])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "run").rglob(".*"))
    assert train(Run.resume(options(tmp_path / "run")), [photo])
    train(Run(TINY, 0, options(tmp_path / "whole")), [photo])
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")


def test_config_file_gives_the_run_again(photo, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", TINY)
    common = ["train", "--data", str(photo), "--val", str(photo), "--device", "cpu", "--log-every", "1"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert main([*common, "--preset", "tiny", "--out", str(first), "--seed", "5", "--learning-rate", "2e-3",
                 "--steps", "3"]) == 0
    assert read_config(first / "config.json")[1] == 5
    assert main([*common, "--config", str(first / "config.json"), "--out", str(second)]) == 0
    assert figures(first) == figures(second)
    # --resume auto starts a run, and resumes it.
    third = [*common, "--config", str(first / "config.json"), "--out", str(tmp_path / "third"), "--resume", "auto"]
    assert main([*third, "--steps", "2"]) == 0 and main([*third, "--steps", "3"]) == 0
    assert figures(first) == figures(tmp_path / "third")


@pytest.mark.parametrize("change, word", [
    (lambda c: c.update(colour=1), "unknown key colour"),
    (lambda c: c["config"].update(chanels=8), "unknown key config.chanels"),
    (lambda c: c["training"].update(lr=1), "unknown key training.lr"),
    (lambda c: c["training"].update(batch=0), "batch=0"),
    (lambda c: c["training"].update(steps="many"), "training.steps='many': expected a whole number"),
    (lambda c: c["training"].update(ema=1.5), "ema=1.5"),
    (lambda c: c["degradation"].update(irregular=1), "irregular=1: expected true or false"),
    (lambda c: c["config"].update(scale=5), "scale=5"),
    (lambda c: c["degradation"].update(kernel_size=7), "degradation.kernel_size=7"),
    (lambda c: c["degradation"].update(sigma=[1]), "sigma"),
    (lambda c: c.pop("training"), "training"),
    (lambda c: c.update(seed=-1), "seed=-1"),
])
def test_errors_of_a_config_file_name_the_key(tmp_path, change, word):
    path = tmp_path / "config.json"
    write_config(path, TINY, 0)
    assert read_config(path) == (TINY, 0)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DanFastError) as error:
        read_config(path)
    assert word in str(error.value) and str(path) in str(error.value)
    path.write_text("{")
    with pytest.raises(DanFastError, match="JSON"):
        read_config(path)
