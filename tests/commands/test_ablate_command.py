"""The papers' questions: every one runs, its networks differ in what they should, and finished runs are kept."""

import csv
import os
import signal
from dataclasses import replace

import pytest
import torch

from dan_fast.cli import main
from dan_fast.experiments import EXPERIMENTS, runner
from dan_fast.experiments.block import Concatenating
from dan_fast.experiments.end_to_end import learn_apart, learn_with_estimate
from dan_fast.experiments.experiment import TINY, Experiment, Trial, Variant
from dan_fast.experiments.inputs import GivenImageOnly
from dan_fast.experiments.recipe import charbonnier, work
from dan_fast.experiments.runner import Result
from dan_fast.experiments.supervision import CodeOnly
from dan_fast.experiments.verdict import difference, is_significant, spread, verdicts
from dan_fast.image_files import read_image, write_image
from dan_fast.model import DAN
from dan_fast.training.run import Run
from dan_fast.training.step import losses, squared

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = TINY.config


@pytest.fixture
def photo(tmp_path):
    """Small, so that measuring takes no time."""
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
    if question == "recipe":  # not all of its many trainings
        whole = EXPERIMENTS["recipe"](replace(TINY, training=replace(TINY.training, steps=2)))
        few = tuple(v for v in whole.variants if v.name in ("recipe", "l2", "all-learn", "wide"))
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


def images():
    return torch.rand(2, 3, 12, 12), torch.rand(2, 3, 48, 48), torch.rand(2, 21, 21).softmax(1)


def test_the_estimator_of_inputs_does_not_see_the_restored_image():
    lr, _, _ = images()
    for build, sees in ((DAN, True), (GivenImageOnly, False)):
        model = build(CONFIG)
        before = model(lr, 1).kernel
        with torch.no_grad():
            model.Restorer.fusion.weight.mul_(3)
        assert torch.equal(before, model(lr, 1).kernel) is not sees
    assert {n: t.shape for n, t in DAN(CONFIG).state_dict().items()} == {
        n: t.shape for n, t in GivenImageOnly(CONFIG).state_dict().items()}


@pytest.mark.parametrize(("loss", "of_kernel"), [(learn_with_estimate, False), (learn_apart, True)])
def test_two_steps_learn_from_their_own_loss_alone(loss, of_kernel):
    model = DAN(CONFIG)
    lr, hr, kernel = images()
    found = loss(model, lr, hr, kernel, 4)
    for own, parts in ((found.sr, model.Restorer), (found.kernel, model.Estimator)):
        model.zero_grad()
        own.backward(retain_graph=True)
        learned = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
        assert learned == {"Restorer" if parts is model.Restorer else "Estimator"}
    # Only the Restorer of the bound is shown the true kernel.
    other = loss(model, lr, hr, kernel.flip(1, 2).roll(3, 2), 4)
    assert torch.equal(found.sr, other.sr) is not of_kernel


def test_networks_of_block_cost_about_the_same_and_see_the_kernel():
    dpcb, crb = DAN(CONFIG), Concatenating(CONFIG)
    cost = [runner._multiply_adds(model, EXPERIMENTS["block"](TINY).variants[0].trials[0].find)
            for model in (dpcb, crb)]
    # 10 values of the code beside 16 channels; it is less in wider networks.
    assert 0.8 < cost[1] / cost[0] < 1.5
    lr = torch.rand(1, 3, 12, 12)
    assert not torch.equal(crb.Restorer(lr, torch.zeros(1, 10)), crb.Restorer(lr, torch.ones(1, 10)))
    out = crb(lr)
    assert out.kernel.shape == (1, 21, 21) and out.kernel.sum().item() == pytest.approx(1, abs=1e-5)


def test_supervision_learns_from_the_code():
    model = CodeOnly(CONFIG)
    lr, hr, kernel = images()
    out = model(lr)
    assert out.kernel is None and out.code.shape == (2, 10)
    expected = (out.code - model.encode(kernel)).abs().mean()
    assert torch.allclose(losses(model, lr, hr, kernel, 4).kernel, expected)


def test_blur_trains_one_network_on_two_blurs():
    isotropic, irregular = EXPERIMENTS["blur"](TINY).variants
    assert isotropic.preset.config == irregular.preset.config and isotropic.preset.config.kernel_size == 31
    kernels = [v.preset.degradation.kernels(50, torch.Generator().manual_seed(0)) for v in (isotropic, irregular)]
    assert [torch.allclose(k, k.transpose(1, 2), atol=1e-6) for k in kernels] == [True, False]


def test_the_recipe_changes_one_thing_at_the_same_cost():
    first, *others = EXPERIMENTS["recipe"](TINY).variants
    assert first.preset == TINY and first.loss is None
    for variant in others:
        assert (variant.loss is None) is (variant.preset != TINY)
        assert work(variant.preset) == pytest.approx(work(TINY), rel=2e-3)
    longer = replace(TINY, config=replace(TINY.config, iterations=6), training=replace(TINY.training, short_until=0))
    # A step of n iterations: n forward and two more for the backward pass; of half 2 and half 4: 5 on average.
    assert work(longer) / work(TINY) == pytest.approx(8 / 5)
    everywhere = replace(longer, config=replace(longer.config, gradient="all"))
    assert work(everywhere) / work(longer) == pytest.approx((6 + 5 + 12) / 8)


def test_losses_of_the_recipe():
    model = DAN(CONFIG)
    lr, hr, kernel = images()
    expected = losses(model, lr, hr, kernel, 2)
    for distance in (squared, charbonnier):
        found = losses(model, lr, hr, kernel, 2, distance)
        assert torch.equal(found.kernel, expected.kernel) and not torch.equal(found.sr, expected.sr)
    error = torch.tensor([0.0, 3e-3, -4e-3])
    assert squared(error).item() == pytest.approx(25e-6 * 10 / 3)
    assert charbonnier(error).item() == pytest.approx((1e-3 + 10e-6**0.5 + 17e-6**0.5) / 3)


def test_more_iterations_are_more_work():
    trials = EXPERIMENTS["iterations"](TINY).variants[0].trials
    assert len(trials) == 8
    costs = [runner._multiply_adds(DAN(CONFIG), trial.find) for trial in trials]
    assert costs == pytest.approx([costs[0] * count for count in range(1, 9)], rel=1e-3)


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
    # The interrupted training went on where it was: two steps of each of six trainings.
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
    capsys.readouterr()
    for arguments, message in [
        (["--preset", "v3"], "no preset 'v3'"), (["--preset", "v1-x4"], "expected tiny or one of"),
        (["--steps", "3", "--out", tmp_path / "used"], "training.steps was 2 and is 3"),
        (["--val", tmp_path / "missing"], "missing"), (["--data", tmp_path / "missing"], "missing"),
        (["--out", tmp_path / "file"], "cannot write"), (["--out", tmp_path / "broken"], "cannot be read as JSON"),
    ]:
        common = ["--out", tmp_path / "new", "--data", photo, "--val", photo, "--steps", "2"]
        assert main(["ablate", "inputs", *map(str, [*common, *arguments])]) == 2
        errors = capsys.readouterr().err
        assert message in errors and errors.count("\n") == 1
    for arguments in (["colour"], ["inputs", "--seeds", "2"]):
        with pytest.raises(SystemExit, match="2"):
            main(["ablate", *arguments])


def result(seed, psnr, error=0.1):
    return Result("v", "t", seed, psnr, 0.5, error, 0.1, 1, 1)


def test_differences_are_seed_by_seed_and_count_beyond_twice_their_spread():
    a, b = [result(s, 20.0 + 5 * s) for s in range(3)], [result(s, 20.1 + 5 * s + 0.01 * s) for s in range(3)]
    change = difference(b, a, "psnr_y")
    assert change.mean == pytest.approx(0.11) and change.deviation == pytest.approx(0.01) and is_significant(change)
    assert not is_significant(spread([0.1, -0.1, 0.2]))
    assert difference([replace(r, kernel_error=None) for r in a], b, "kernel_error") is None


def test_a_difference_that_does_not_show_is_not_called_better():
    experiment = Experiment("?", (Variant("v", TINY, (Trial("a"), Trial("b", against="a"))),))
    for gain, said in ((0.3, "better"), (-0.3, "worse"), (1e-4, "too little to matter")):
        results = [replace(result(seed, 20.0 + seed + change), trial=trial)
                   for trial, change in (("a", 0.0), ("b", gain)) for seed in range(3)]
        assert verdicts(experiment, results)[0].endswith(f"PSNR Y: {gain:+.2f} ± 0.00: {said}")
