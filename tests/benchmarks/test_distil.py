"""The scripts that teach a Refiner: cases fit together, a new Refiner changes nothing, and it learns."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.networks import tiny_config

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.distil import cases as made_cases
from benchmarks.distil.carried_over import _overlap, with_refiner_of
from benchmarks.distil.cases import batch, check_restored_by, make_cases, read_cases, restore_cases
from benchmarks.distil.learning import (
    QUINTIC,
    Recipe,
    _muon_step,
    _without_wide_kernels,
    spread,
    train,
    with_refiner,
)
from dan_fast import DAN
from dan_fast.blur_kernels.gaussian import gaussian_kernels
from dan_fast.errors import DanFastError
from dan_fast.evaluation.measure import bicubic
from dan_fast.files import SAMPLES
from dan_fast.image_files import find_images

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small() -> DAN:
    return DAN(tiny_config(channels=16, groups=2, blocks=2)).eval()


@pytest.fixture
def cases(small, tmp_path, monkeypatch):
    monkeypatch.setattr(made_cases, "SIDE", 24)
    make_cases(tmp_path, 4, 21, lambda lr, kernel: bicubic(lr, 4), find_images([SAMPLES])[:2], 3)
    restore_cases(tmp_path, small)
    return read_cases(tmp_path)


def test_a_case_is_one_photo_in_four_forms(cases):
    assert cases.lr.shape == (6, 24, 24, 3) and cases.hr.shape == cases.sr.shape == cases.taught.shape == (6, 96, 96, 3)
    for lr, taught, hr in zip(cases.lr, cases.taught, cases.hr, strict=True):
        assert np.array_equal(taught, bicubic(lr.copy(), 4))
        assert np.abs(taught.astype(float) - hr).mean() < 0.8 * np.abs(taught[:, ::-1].astype(float) - hr).mean()
    assert len({hr.tobytes() for hr in cases.hr}) == 6
    assert cases.sigma.min() >= 0.2 and cases.sigma.max() <= 4 and np.isfinite(cases.code).all()
    # Random weights are no rival for bicubic upscaling.
    assert cases.teaches.all()


def test_folders_are_read_one_after_the_other(small, cases, tmp_path):
    photos = find_images([SAMPLES])
    make_cases(tmp_path / "more", 4, 21, lambda lr, kernel: np.zeros((96, 96, 3), np.uint8), photos[2:], 1)
    restore_cases(tmp_path / "more", small)
    more = read_cases(tmp_path / "more")
    both = read_cases(tmp_path, tmp_path / "more")
    assert len(both.sigma) == len(both.hr) == 9 and both.hr.shape == (9, 96, 96, 3)
    assert np.array_equal(both.hr[2], cases.hr[2]) and np.array_equal(both.hr[7, 5:9], more.hr[1, 5:9])
    assert np.array_equal(both.code, np.concatenate([cases.code, more.code]))
    narrow = _without_wide_kernels(both, np.median(both.sigma))
    rows = np.flatnonzero(both.sigma < np.median(both.sigma))
    assert len(rows) == len(narrow.lr) == 4
    for place, row in enumerate(rows):
        assert np.array_equal(narrow.lr[place], both.lr[row]) and narrow.sigma[place] == both.sigma[row]
    few = _without_wide_kernels(narrow, np.median(narrow.sigma))
    assert np.array_equal(few.taught[1], narrow.taught[np.flatnonzero(narrow.sigma < np.median(narrow.sigma))[1]])
    twice = tmp_path / "x2"
    make_cases(twice, 2, 21, lambda lr, kernel: np.zeros((48, 48, 3), np.uint8), photos[:1], 1)
    restore_cases(twice, DAN(tiny_config(scale=2)))
    with pytest.raises(DanFastError, match="several scales"):
        read_cases(tmp_path, twice)


def test_patches_are_turned_alike(cases):
    given = batch(cases, np.random.default_rng(0), 6, 16, 4, 0.25)
    assert given.lr.shape == (6, 3, 16, 16) and given.hr.shape == (6, 3, 64, 64)
    small = torch.nn.functional.avg_pool2d(given.taught, 4)
    assert (small - given.lr).abs().mean() < 0.25 * (small.flip(3) - given.lr).abs().mean()
    assert (given.sharp_share == 0.25).all()
    worse = batch(cases._replace(teaches=np.zeros(6, bool)), np.random.default_rng(0), 6, 16, 4, 0.25)
    assert (worse.sharp_share == 1).all() and torch.equal(worse.lr, given.lr)


def test_a_new_refiner_adds_nothing_and_sees_what_the_restorer_sees(small):
    model, lr, code = with_refiner(small, 32, 3, 2).eval(), torch.rand(2, 3, 9, 8), torch.randn(2, 10)
    with torch.inference_mode():
        assert torch.equal(model(lr).sr, small(lr).sr)
        seen = torch.cat((lr, torch.rand(2, 48, 9, 8)), 1)
        features, known = model.Refiner.features(seen, code), small.Restorer.features(lr, code)
        # The third group changes nothing but doubles.
        torch.testing.assert_close(features[:, :16], 2 * known, rtol=1e-4, atol=1e-5)
        assert features[:, 16:].std() > 0


def test_another_network_restores_the_cases_without_its_refiner(small, cases, tmp_path):
    before = np.array(cases.sr), cases.code.copy(), np.array(cases.taught)
    model = with_refiner_of(small, with_refiner(small, 32, 2, 1))
    model.Refiner.upscale[0].bias.data.fill_(1)
    restore_cases(tmp_path, model)
    again = read_cases(tmp_path)
    assert all(map(np.array_equal, (again.sr, again.code, again.taught), before))
    restore_cases(tmp_path, DAN(small.config))
    assert not np.array_equal(read_cases(tmp_path).sr, before[0])
    with pytest.raises(DanFastError, match="are for x4, the network is for x2: take a network for the scale"):
        restore_cases(tmp_path, DAN(tiny_config(scale=2)))


def test_cases_know_who_restored_them(small, cases, tmp_path):
    check_restored_by(small, tmp_path)
    check_restored_by(with_refiner(small, 32, 2, 1), tmp_path)
    other = DAN(small.config)
    with pytest.raises(DanFastError, match="not restored by this network: run `restore`"):
        check_restored_by(other, tmp_path)
    restore_cases(tmp_path, other)
    check_restored_by(other, tmp_path)
    with pytest.raises(DanFastError, match="not restored"):
        check_restored_by(small, tmp_path)


def test_an_interruption_leaves_the_results_that_were_there(small, cases, tmp_path, monkeypatch):
    before = (tmp_path / "sr.npy").read_bytes()
    seen = []

    def interrupted(*arguments, **options):
        seen.append(arguments)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return alternate(*arguments, **options)
    alternate = made_cases.alternate
    monkeypatch.setattr(made_cases, "alternate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        restore_cases(tmp_path, DAN(small.config))
    assert (tmp_path / "sr.npy").read_bytes() == before
    check_restored_by(small, tmp_path)


def test_estimates_vary_more_than_those_of_the_training(small, cases):
    given = batch(cases, np.random.default_rng(0), 6, 16, 4, 0.3)
    given = given._replace(sigma=torch.full((4000,), 2.0), code=torch.rand(1, 10).expand(4000, -1))
    codes = spread(small, given, 0.06, np.random.default_rng(1))
    torch.testing.assert_close(spread(small, given, 0.0, np.random.default_rng(1)), given.code)
    slope = (small.encode(gaussian_kernels(torch.tensor([2.02]), 21)) -
             small.encode(gaussian_kernels(torch.tensor([1.98]), 21))) / 0.02  # per unit of the relative width
    shares = ((codes - given.code) @ slope[0]) / slope.square().sum()
    assert shares.std().item() == pytest.approx(0.06, rel=0.15) and abs(shares.mean().item()) < 0.01


@pytest.mark.parametrize(("first", "second"), [(2, 3), (3, 2), (2, 4), (4, 2), (3, 4), (4, 3), (3, 3)])
def test_resampling_of_a_length(first, second):
    """Twelve equal parts fit both."""
    values = torch.rand(second)
    expected = values.repeat_interleave(12 // second).unflatten(0, (first, 12 // first)).mean(1)
    torch.testing.assert_close(_overlap(first, second) @ values, expected)


def test_a_refiner_is_carried_over_to_an_equal_network_as_it_is(small):
    source = with_refiner(small, 32, 3, 2)
    for weight in source.Refiner.parameters():
        weight.data.normal_()
    other = DAN(small.config)
    carried = with_refiner_of(other, source).state_dict()
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in carried.items() if "Refiner" in name)
    assert all(torch.equal(tensor, carried[name]) for name, tensor in other.state_dict().items())
    with pytest.raises(DanFastError, match="no Refiner"):
        with_refiner_of(other, other)
    with pytest.raises(DanFastError, match="images of 3 channels: expected 1"):
        with_refiner_of(DAN(tiny_config(image_channels=1)), source)


def test_the_old_refiner_of_a_network_is_left_behind(small):
    old = with_refiner(small, 32, 2, 1)
    old.Refiner.upscale[0].weight.data.normal_()
    for model in (with_refiner(old, 32, 2, 1), with_refiner(old, 16, 1, 1)):
        lr = torch.rand(1, 3, 9, 8)
        with torch.inference_mode():
            assert torch.equal(model.eval()(lr).sr, small(lr).sr)
    assert torch.equal(with_refiner_of(old, with_refiner(small, 16, 1, 1)).Refiner.upscale[0].weight,
                       torch.zeros(48, 16, 3, 3))


@pytest.mark.parametrize("own_basis", [True, False])
@pytest.mark.parametrize("scale", [2, 3])
def test_at_another_scale_a_refiner_sees_and_adds_the_same_per_area(small, scale, own_basis):
    """With results that are flat in each LR pixel, and codes of one blur in LR pixels, the scales do the same."""
    source = with_refiner(small, 32, 2, 1).double()
    for weight in source.Refiner.parameters():
        weight.data.normal_(std=0.1)
    source.Refiner.head2.weight.data.normal_(std=5)
    config = tiny_config(channels=16, groups=2, blocks=2, scale=scale)
    other = DAN(config) if own_basis else DAN(config, small.encoder[0])
    model = with_refiner_of(other, source.float()).double()
    lr, flat = torch.rand(2, 1, 3, 7, 6, dtype=torch.float64)
    added = []
    for network in (source.double(), model):
        s = network.config.scale
        code = network.encode(gaussian_kernels(torch.tensor([0.6 * s], dtype=torch.float64), 21))
        sr = flat.repeat_interleave(s, 2).repeat_interleave(s, 3)
        with torch.inference_mode():
            added.append(torch.nn.functional.avg_pool2d(network.Refiner(lr, sr, code) - sr, s))
    model.Refiner.head2.weight.data.zero_()
    with torch.inference_mode():
        without_code = torch.nn.functional.avg_pool2d(model.Refiner(lr, sr, code) - sr, scale)
    # What differs is the fit of the map between codes: 256 kernels, and a small ridge.
    assert (added[1] - added[0]).abs().max() < 0.2 * (without_code - added[0]).abs().max()


@pytest.mark.parametrize("true_codes", [True, False])
def test_it_learns_and_nothing_else_does(small, cases, true_codes):
    model, losses = with_refiner(small, 32, 2, 1), []
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = Recipe(60, true_codes, 0.3, largest_sigma=3.5, learning_rate=1e-3, muon=0.01, batch=2, patch=16)

    class Enough(Exception):
        pass

    def report(step, loss, average):
        losses.append(loss)
        if len(losses) == 6:
            raise Enough
    with pytest.raises(Enough):
        train(model, cases, recipe, report, every=20)
    for name, tensor in model.state_dict().items():
        assert name.startswith("Refiner.") or torch.equal(tensor, before[name]), name
    assert not torch.equal(model.Refiner.fusion.weight, before["Refiner.fusion.weight"])
    assert np.mean(losses[-2:]) < 0.97 * losses[0]


def test_too_few_cases_and_no_time(small, cases):
    for recipe, message in ((Recipe(1, True, 0.0, largest_sigma=3.5, batch=7), "fewer than the 7 patches"),
                            (Recipe(0, True, 0.0, largest_sigma=5.0), "minutes=0: expected a positive number")):
        with pytest.raises(DanFastError, match=message):
            train(with_refiner(small, 32, 2, 1), cases, recipe, print)


def test_a_step_is_of_the_same_length_in_all_directions():
    weight = torch.nn.Parameter(torch.zeros(8, 8, 3, 3))
    weight.grad = torch.randn(8, 8, 3, 3) * torch.logspace(0, 2, 8)[:, None, None, None]
    momentum = torch.zeros(1, 8, 8, 3, 3)
    _muon_step([weight], momentum, 0.5, first=True)
    values = torch.linalg.svdvals(weight.detach().flatten(1)) / 0.5
    assert values.min() > 0.6 and values.max() < 1.3  # the quintic brings them near 1
    assert (weight.detach() * weight.grad).sum() < 0 and sum(QUINTIC) == pytest.approx(0.701)
