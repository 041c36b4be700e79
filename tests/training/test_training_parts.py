"""Checkpoints in parts: joined elsewhere the run goes on with the same bits; incomplete sets are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training_checkpoints import TINY, figures, options, photo  # noqa: F401  (a fixture)

import dan_fast
from dan_fast.cli import main
from dan_fast.errors import DanFastError
from dan_fast.training import parts as parts_module
from dan_fast.training.checkpoints import Checkpoints
from dan_fast.training.config_file import read_config, write_config
from dan_fast.training.loop import train
from dan_fast.training.parts import INDEX, join_parts, write_parts
from dan_fast.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")
MIB = 0.125


@pytest.fixture
def common(photo, tmp_path) -> list[str]:  # noqa: F811
    write_config(tmp_path / "tiny.json", TINY, 3)
    return ["train", "--config", str(tmp_path / "tiny.json"), "--data", str(photo), "--val", str(photo), "--device",
            "cpu", "--precision", "fp32", "--log-every", "1", "--save-every", "2", "--validate-every", "100"]


@pytest.fixture
def state(tmp_path) -> Path:
    """A folder with the parts of a run before its first step."""
    run = Run(TINY, 0, options(tmp_path / "whole", parts=tmp_path / "parts", part_bytes=int(MIB * 2**20)))
    run.save()
    return tmp_path / "parts"


def test_joined_it_goes_on_with_the_same_bits(common, tmp_path):
    run, state = tmp_path / "run", tmp_path / "state"
    assert main([*common, "--out", str(run), "--steps", "6", "--parts", str(state), "--part-mib", str(MIB)]) == 0
    files = sorted(state.iterdir())
    checkpoint = Checkpoints(run / "checkpoints").newest_first()[0]
    sizes = [path.stat().st_size for path in files if path.name != INDEX]
    assert len(sizes) > 2 and max(sizes) == MIB * 2**20 and sum(sizes) == checkpoint.stat().st_size
    moved = tmp_path / "moved"
    shutil.copytree(state, moved)
    assert main([*common, "--out", str(moved)]) == 2  # it holds a run
    shutil.copy(run / "metrics.csv", moved)
    for out in (run, moved):
        assert main([*common, "--out", str(out), "--resume", "--steps", "12"]) == 0
    assert figures(moved) == figures(run) and len(figures(run)) == 13
    a, b = (Checkpoints(out / "checkpoints").read()["step_state"] for out in (run, moved))
    for part in ("model", "average", "optimizer", "guard"):
        assert all(torch.equal(a[part][name], b[part][name]) for name in a[part])


def test_newer_parts_are_taken_and_older_ones_left(common, state, tmp_path, caplog):
    out = tmp_path / "run"
    assert main([*common, "--out", str(out), "--steps", "2"]) == 0
    for path in state.iterdir():
        shutil.copy(path, out)
    (next(iter(out.glob("*.part001")))).unlink()  # of step 0, which is not needed any more
    assert main([*common, "--out", str(out), "--resume", "--steps", "4"]) == 0
    assert main([*common, "--out", str(tmp_path / "far"), "--steps", "8", "--parts", str(out)]) == 0
    assert join_parts(out, out).name == "step-000000008.pt" and join_parts(out, out) is None
    assert join_parts(tmp_path, out) is None


@pytest.mark.parametrize("damage, word", [
    (lambda parts, index: parts[1].unlink(), "part 2 of {n} is missing"),
    (lambda parts, index: parts[0].write_bytes(parts[0].read_bytes()[:-1]), "part 1 of {n} has 131071 bytes"),
    (lambda parts, index: flip(parts[-1]), "part {n} of {n} is damaged"),
    (lambda parts, index: swap(parts[0], parts[1]), "part 1 of {n} is damaged"),
    (lambda parts, index: index.write_text("{"), "index"),
    (lambda parts, index: index.write_bytes(b"\xff\xfe"), "index"),
    (lambda parts, index: index.write_text("[" * 100_000), "index"),
    (lambda parts, index: edit(index, file="../../step-000000000.pt"), "index"),
    (lambda parts, index: edit(index, format="other"), "index"),
    (lambda parts, index: edit(index, parts=[]), "index"),
    (lambda parts, index: edit(index, parts=[{"name": "../secret", "bytes": 1, "sha256": "0" * 64}]), "index"),
    (lambda parts, index: edit(index, parts=[{"name": parts[0].name, "bytes": "1", "sha256": "0" * 64}]), "index"),
    (lambda parts, index: edit(index, parts=3), "index"),
])
def test_what_is_missing_or_damaged_is_named(common, state, tmp_path, capsys, damage, word):
    parts = sorted(path for path in state.iterdir() if path.name != INDEX)
    damage(parts, state / INDEX)
    for arguments in ([*common, "--resume", "--out", str(state)], ["parts", "join", str(state), "-o", str(state)]):
        assert main(arguments) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and str(state) in error[0] and word.format(n=len(parts)) in error[0]
        assert "copy it again" in error[0] and (word == "index" or ".part" in error[0])
        assert not Checkpoints(state / "checkpoints").newest_first() and not list(state.rglob(".*"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(a: Path, b: Path) -> None:
    data = a.read_bytes()
    a.write_bytes(b.read_bytes())
    b.write_bytes(data)


def edit(index: Path, **changes) -> None:
    index.write_text(json.dumps(json.loads(index.read_text()) | changes))


@pytest.mark.parametrize("at", range(5))
def test_interrupted_at_any_file_the_set_before_is_whole(state, tmp_path, monkeypatch, at):
    """Even if both sets are of the same step."""
    before = tmp_path / "before"
    shutil.copytree(state, before)
    run = Run(TINY, 1, options(tmp_path / "other"))
    run.save()
    newest = run.checkpoints.newest_first()[0]
    real, written = parts_module.write_atomically, []

    def interrupted(path, data):
        if len(written) == at:
            raise KeyboardInterrupt
        written.append(path)
        real(path, data)

    monkeypatch.setattr(parts_module, "write_atomically", interrupted)
    count = -(-newest.stat().st_size // int(MIB * 2**20))
    if at <= count:
        with pytest.raises(KeyboardInterrupt):
            write_parts(newest, state, int(MIB * 2**20))
        assert join_parts(state, tmp_path / "joined").read_bytes() == join_parts(before, tmp_path / "b").read_bytes()
    monkeypatch.undo()
    assert len(write_parts(newest, state, int(MIB * 2**20))) == count + 1 == len(list(state.iterdir()))
    assert join_parts(state, tmp_path / "again").read_bytes() == newest.read_bytes()


def test_command_splits_and_joins(photo, tmp_path, capsys):  # noqa: F811
    train(Run(TINY, 0, options(tmp_path / "run")), [photo])
    state, out = tmp_path / "state", tmp_path / "joined"
    assert main(["parts", "split", str(tmp_path / "run"), "-o", str(state), "--mib", "0.1"]) == 0
    assert "step-000000012.pt in" in capsys.readouterr().out
    assert main(["parts", "join", str(state), "-o", str(out)]) == 0
    assert "step 12" in capsys.readouterr().out
    a, b = (dan_fast.load(folder / "weights.safetensors").state_dict() for folder in (tmp_path / "run", out))
    assert all(torch.equal(a[name], b[name]) for name in a) and read_config(out / "config.json") == (TINY, 0)
    for arguments, word in ((["join", state, "-o", out], "already holds"), (["join", out, "-o", out], INDEX),
                            (["split", state, "-o", out], "holds no run"),
                            (["split", out, "-o", state, "--mib", "0"], "--mib 0: expected"),
                            (["split", out, "-o", state, "--mib", "nan"], "--mib nan: expected")):
        assert main(["parts", *map(str, arguments)]) == 2
        error = capsys.readouterr().err.strip().splitlines()
        assert len(error) == 1 and word in error[0]


def test_too_many_parts_are_refused(tmp_path):
    (tmp_path / "step-000000001.pt").write_bytes(np.zeros(1024 * 1000, np.uint8).tobytes())
    with pytest.raises(DanFastError, match="999 parts"):
        write_parts(tmp_path / "step-000000001.pt", tmp_path / "parts", 1024)
    assert not (tmp_path / "parts").exists()
