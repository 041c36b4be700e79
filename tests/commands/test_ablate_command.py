"""``dan-fast ablate``: every question runs, and finished trainings are kept."""

import csv
import hashlib
import json
import os
import shutil
import signal
from dataclasses import replace

import pytest
import torch

from dan_fast import checkpoint
from dan_fast.cli import main
from dan_fast.experiments import EXPERIMENTS
from dan_fast.experiments.experiment import TINY
from dan_fast.image_files import read_image, write_image
from dan_fast.model import DAN
from dan_fast.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def photo(tmp_path):
    """The folder of a small photo, which is measured quickly."""
    from dan_fast.files import SAMPLES
    path = tmp_path / "photos" / "dog.png"
    write_image(path, read_image(SAMPLES / "dog.png").rgb[200:296, 200:296])
    return path.parent


def ablate(question, photo, out, *more):
    return main(["ablate", question, "--data", str(photo), "--val", str(photo), "--steps", "2", "--out", str(out),
                 "--device", "cpu", *more])


def read_results(out):
    with open(out / "results.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("question", EXPERIMENTS)
def test_every_question(question, photo, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    if question == "recipe":  # only some of its many trainings
        whole = EXPERIMENTS["recipe"](replace(TINY, training=replace(TINY.training, steps=2)))
        few = tuple(v for v in whole.variants if v.name in ("recipe", "l2", "all-gradients", "wide"))
        monkeypatch.setitem(EXPERIMENTS, "recipe", lambda preset: replace(whole, variants=few))
    assert ablate(question, photo, tmp_path / "out") == 0
    table = (tmp_path / "out" / "table.md").read_text()
    assert table in capsys.readouterr().out
    trials = [trial for variant in EXPERIMENTS[question](TINY).variants for trial in variant.trials]
    rows = read_results(tmp_path / "out")
    assert len(rows) == 3 * len(trials)
    assert all(f"| {trial.name} | " in table for trial in trials)
    assert all(f"{trial.name} against {trial.against}, PSNR Y" in table for trial in trials if trial.against)
    assert read_image(tmp_path / "out" / "plot.png").rgb.shape[1] == 700


def test_ctrl_c_keeps_what_is_finished_and_a_second_call_goes_on(photo, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    real, steps = Run.train_on, []

    def interrupt_the_fourth(self, hr, stop=False):
        steps.append(self.options.out.name)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, hr, stop)

    monkeypatch.setattr(Run, "train_on", interrupt_the_fourth)
    assert ablate("inputs", photo, out) == 130
    assert [row["variant"] for row in read_results(out)] == ["lr-and-sr"]
    kept = (out / "results.csv").read_text()
    assert ablate("inputs", photo, out) == 0
    assert (out / "results.csv").read_text().startswith(kept)
    # The interrupted training was resumed: six trainings took two steps each.
    assert len(steps) == 12 and steps.count("lr-only-0") == 2
    assert ablate("inputs", photo, out, "--seeds", "4") == 0
    assert len(steps) == 16 and len(read_results(out)) == 8
    monkeypatch.undo()
    assert ablate("inputs", photo, tmp_path / "again") == 0
    assert read_results(tmp_path / "again") == read_results(out)[:6]


def test_bad_input_is_one_line_and_exit_code_2(photo, tmp_path, capsys):
    (tmp_path / "file").write_bytes(b"x")
    assert ablate("inputs", photo, tmp_path / "used") == 0
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "settings.json").write_text("{")
    shutil.copytree(tmp_path / "used", tmp_path / "other")
    results = tmp_path / "other" / "results.csv"
    results.write_text(results.read_text().replace("LR only", "LR alone"))
    capsys.readouterr()
    for arguments, message in [
        (["--preset", "v3"], "no preset 'v3'"), (["--preset", "v1-x4"], "expected tiny or one of"),
        (["--preset", "v2-1.7M-x4"], "without a Refiner; expected tiny or one of"),
        (["--steps", "0"], "--init must give the weights"), (["--init", "v2-0.3M"], "neither a file nor the name"),
        (["--init", "v2-0.3M-x4", "--steps", "0", "--seeds", "4"], "contradict each other"),
        (["--batch", "0"], "batch=0: expected at least 1"),
        (["--steps", "3", "--out", tmp_path / "used"], "training.steps was 2 and is 3"),
        (["--val", tmp_path / "missing"], "missing"), (["--data", tmp_path / "missing"], "missing"),
        (["--out", tmp_path / "file"], "cannot write"), (["--out", tmp_path / "broken"], "cannot be read as JSON"),
        (["--out", tmp_path / "other"], "results of another experiment, 'LR alone'"),
    ]:
        common = ["--out", tmp_path / "new", "--data", photo, "--val", photo, "--steps", "2"]
        assert main(["ablate", "inputs", *map(str, [*common, *arguments])]) == 2
        errors = capsys.readouterr().err
        assert message in errors and errors.count("\n") == 1
    for arguments in (["colour"], ["inputs", "--seeds", "2"]):
        with pytest.raises(SystemExit, match="2"):
            main(["ablate", *arguments])


@pytest.fixture
def weights(tmp_path):
    """A file of random weights of the tiny preset's shape."""
    torch.manual_seed(7)
    checkpoint.save(DAN(TINY.config), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_trainings_start_from_weights(photo, weights, tmp_path, monkeypatch, capsys):
    begun = {}
    real = Run.train_on

    def note_the_first(self, hr, stop=False):
        if self.step == 0:
            begun[self.options.out.name] = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        return real(self, hr, stop)

    monkeypatch.setattr(Run, "train_on", note_the_first)
    out = tmp_path / "out"
    start = ["--init", str(weights)]
    assert ablate("inputs", photo, out, *start, "--learning-rate", "1e-4", "--batch", "1", "--patch", "12",
                  "--short-until", "0", "--warmup", "1") == 0
    given = checkpoint.load(weights).state_dict()
    assert len(begun) == 6
    for name, state in begun.items():
        assert torch.equal(state["Restorer.fusion.weight"], given["Restorer.fusion.weight"]), name
        own = "Estimator.tail.0.weight"
        assert not torch.equal(state[own], given[own])
        assert torch.equal(state[own], begun[f"lr-and-sr-{name[-1]}"][own]), "the same at random for both"
    anew = sum(p.numel() for p in DAN(TINY.config).Estimator.parameters())
    assert f"| {anew:,} |\n" in (out / "table.md").read_text()
    assert [row["anew"] for row in read_results(out)] == 6 * [str(anew)]
    settings = json.loads((out / "settings.json").read_text())
    assert settings["init"] == {"weights": str(weights), "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    for variant in ("lr-and-sr", "lr-only"):
        training = settings[variant]["training"]
        assert [training[name] for name in ("learning_rate", "batch", "patch", "short_until", "warmup")] == [
            1e-4, 1, 12, 0, 1]


def test_results_of_other_weights_are_refused(photo, weights, tmp_path, capsys):
    out, start = tmp_path / "out", ["--init", str(weights)]
    assert ablate("iterations", photo, out, "--steps", "0", *start) == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert ablate("iterations", photo, out, *start) == 2
    assert "trained was False and is None" in capsys.readouterr().err
    assert ablate("iterations", photo, out) == 2
    assert "init was {'weights'" in capsys.readouterr().err
    checkpoint.save(DAN(TINY.config), weights)
    assert ablate("iterations", photo, out, "--steps", "0", *start) == 2
    assert "init.sha256 was" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_given_weights_are_tested_as_they_are(photo, weights, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, "train_on", lambda *_: pytest.fail("it trained"))
    out = tmp_path / "out"
    assert ablate("iterations", photo, out, "--steps", "0", "--init", str(weights)) == 0
    rows, page = read_results(out), (out / "table.md").read_text()
    assert [row["trial"][0] for row in rows] == list("12345678") and {row["seed"] for row in rows} == {"0"}
    assert "One test of given weights" in page and "±" not in page and "p =" not in page
    assert len({row["psnr_y"] for row in rows}) > 1


def test_a_training_that_diverged_is_one_line(photo, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Run, "train_on", lambda self, *_: (
        self.average.Restorer.fusion.weight.data.fill_(float("inf")), setattr(self, "step", self.step + 1)))
    assert ablate("inputs", photo, tmp_path / "out") == 2
    errors = capsys.readouterr().err
    assert "LR and SR, seed 0: its results are not finite" in errors


@pytest.mark.parametrize("question", ["blur", "recipe"])
def test_questions_that_take_no_weights_write_nothing(question, photo, weights, tmp_path, capsys):
    assert ablate(question, photo, tmp_path / "out", "--init", str(weights)) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "out").exists()
