"""``dan-fast ablate``: every question runs, and finished trainings are kept."""

import csv
import os
import shutil
import signal
from dataclasses import replace

import pytest

from dan_fast.cli import main
from dan_fast.experiments import EXPERIMENTS
from dan_fast.experiments.experiment import TINY
from dan_fast.image_files import read_image, write_image
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
