"""Plans against the plain model: the same result, whatever was computed in another way or not at all."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from support.networks import REFINER, tiny_config, tiny_network
from support.rounding import RoundedTo

import dan_fast
from dan_fast.fast_model.alternation import Whole, alternate, restore
from dan_fast.fast_model.cells import to_image
from dan_fast.fast_model.collapsed_upsampler import CollapsedUpsampler
from dan_fast.fast_model.versions import plan_for
from dan_fast.model import DAN

BOUND = 1e-5


def run(plan, lr, **options):
    """Last result and outcome for whole images."""
    whole = Whole(plan, lr)
    outcome = alternate(plan, whole, plan.config.iterations, **options)
    return whole.sr, outcome


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= BOUND * expected.abs().max()


@torch.inference_mode()
def assert_like_model(model, batch, height, width):
    lr = torch.rand(batch, model.config.image_channels, height, width, dtype=model.encoder.dtype)
    outputs = model.iterate(lr)
    sr, outcome = run(plan_for(model), lr)
    assert_close(sr, outputs[-1].sr)
    assert_close(outcome.estimate.code, outputs[-1].code)
    if model.config.version == "v2":
        assert_close(outcome.estimate.kernel, outputs[-1].kernel)
    else:
        assert outcome.estimate.kernel is None
    codes = [model.init_ker_map, *(out.code for out in outputs)]
    assert_close(outcome.code.expand(batch, -1), codes[-2].expand(batch, -1))


@pytest.mark.parametrize("residual", ["doubled", "plain"])
@pytest.mark.parametrize("upsampler", ["published", "direct"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_small_networks(scale, upsampler, residual):
    model = DAN(tiny_config(scale=scale, upsampler=upsampler, group_residual=residual, groups=2, blocks=2)).eval()
    for size in ((1, 1), (7, 13), (17, 6)):
        assert_like_model(model, 2, *size)


@pytest.mark.parametrize("upsampler", ["published", "direct"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_small_networks_v1(scale, upsampler):
    model = DAN(tiny_config(version="v1", groups=0, blocks=3, scale=scale, upsampler=upsampler)).eval()
    for size in ((1, 1), (7, 13), (17, 6)):
        assert_like_model(model, 2, *size)


@pytest.mark.parametrize("name", dan_fast.available())
def test_trained_weights(name):
    assert_like_model(dan_fast.load(name), 2, 19, 30)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_published_shape(version):
    # Random weights make the features of 50 doubled blocks large: that is where rounding would show.
    assert_like_model(DAN(dan_fast.DANConfig(version=version)).eval(), 1, 9, 12)


@pytest.mark.parametrize("upsampler", ["published", "direct"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_networks_with_a_refiner(scale, upsampler):
    model = tiny_network(scale=scale, upsampler=upsampler, **REFINER).eval()
    for size in ((1, 1), (7, 13), (17, 6)):
        assert_like_model(model, 2, *size)


@pytest.mark.parametrize("changes", [
    {"image_channels": 1}, {"iterations": 1}, {"group_residual": "doubled"}, {"refiner_channels": 24}])
def test_other_networks_with_a_refiner(changes):
    assert_like_model(tiny_network(**{**REFINER, **changes}).eval(), 3, 6, 5)
    assert_like_model(tiny_network(**{**REFINER, **changes}).eval().double(), 3, 6, 5)


def test_a_known_code_is_refined_too():
    model, lr = tiny_network(**REFINER).eval(), torch.rand(2, 3, 8, 9)
    with torch.inference_mode():
        for code in (torch.randn(1, 10), torch.randn(2, 10)):  # one for all images, and one each
            each = code.expand(2, -1)
            whole = Whole(plan_for(model), lr)
            restore(plan_for(model), whole, code)
            assert_close(whole.sr, model.refine(lr, model.Restorer(lr, each), each))


def test_a_plan_that_does_not_refine():
    model, lr = tiny_network(**REFINER).eval(), torch.rand(2, 3, 8, 9)
    with torch.inference_mode():
        out = model.iterate(lr)
        sr, outcome = run(plan_for(model, refines=False), lr)
        assert_close(sr, model.Restorer(lr, out[-2].code))
    assert_close(outcome.estimate.kernel, out[-1].kernel)


def test_with_a_tolerance_only_the_last_result_is_refined(monkeypatch):
    model = tiny_network(**REFINER).eval()
    plan, lr = plan_for(model), torch.rand(2, 3, 8, 9)
    calls = []
    monkeypatch.setattr(plan, "refine", lambda *given: calls.append(1) or type(plan).refine(plan, *given))
    with torch.inference_mode():
        sr, outcome = run(plan, lr, tolerance=2.0)  # no kernels are further apart
        assert outcome.iterations == 1 and len(calls) == 1
        assert_close(sr, model(lr, 1).sr)
        sr, outcome = run(plan, lr, tolerance=0.0)
    assert outcome.iterations == 4 and len(calls) == 2
    assert_close(sr, model(lr).sr)


@pytest.mark.parametrize("changes", [
    {"channels": 12}, {"image_channels": 1}, {"iterations": 1}, {"kernel_size": 11, "code_length": 3}])
def test_other_networks(changes):
    assert_like_model(DAN(tiny_config(**changes)).eval(), 3, 6, 5)


def test_float64():
    assert_like_model(DAN(tiny_config(groups=2)).eval().double(), 2, 6, 5)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 3), (4, 3), (9, 11)], ids=str)
def test_the_published_upsampler_is_one_convolution(scale, size):
    """And its border is right to the last pixel."""
    model = DAN(dan_fast.DANConfig(groups=1, blocks=1, scale=scale, channels=16)).double().eval()
    upsampler = CollapsedUpsampler(model.Restorer.upscale, 16, scale)
    features = torch.randn(2, 16, *size, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(to_image(upsampler(features), scale), model.Restorer.upscale(features))


def test_made_from_a_model_of_inference_mode():
    with torch.inference_mode():
        model = DAN(tiny_config(upsampler="published")).eval()
        lr = torch.rand(1, 3, 7, 9)
        sr, _ = run(plan_for(model), lr)
        assert_close(sr, model(lr).sr)


def test_the_last_estimator_is_skipped_where_nothing_needs_it(monkeypatch):
    model = DAN(tiny_config(iterations=3)).eval()
    plan, lr = plan_for(model), torch.rand(1, 3, 8, 8)
    calls = []
    estimate = plan.estimate
    monkeypatch.setattr(plan, "estimate", lambda *given, **said: calls.append(1) or estimate(*given, **said))
    with torch.inference_mode():
        _, outcome = run(plan, lr, wants_kernel=False)
        assert len(calls) == 2 and outcome.estimate is None
        run(plan, lr)
        assert len(calls) == 5


def test_tolerance_stops_when_the_kernel_stands_still():
    model = dan_fast.load("default", iterations=8)
    # Smooth: on noise the kernel stands still at once, but for rounding.
    lr = F.interpolate(torch.rand(2, 3, 6, 6), size=(16, 16), mode="bilinear")
    with torch.inference_mode():
        outputs = model.iterate(lr)
        moves = [(b.kernel - a.kernel).abs().sum((1, 2)).max().item() for a, b in pairwise(outputs)]
        tolerance = moves[2] * 1.001
        first = next(n for n, move in enumerate(moves, 2) if move <= tolerance)
        sr, outcome = run(plan_for(model), lr, tolerance=tolerance)
    assert outcome.iterations == first < 8
    with torch.inference_mode():
        assert_close(sr, model(lr, first).sr)
    assert_close(outcome.estimate.kernel, outputs[first - 1].kernel)


# --- low precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("version", ["v1", "v2", "trained"])
def test_low_precision_errs_at_most_twice_as_much_as_rounding_every_layer(version, dtype):
    if version == "trained":
        model = dan_fast.load("default")
    else:
        model = DAN(tiny_config(version=version, groups=2 if version == "v2" else 0, blocks=3, upsampler="published",
                                group_residual="doubled")).eval()
    lr = torch.rand(2, 3, 12, 14)
    with torch.inference_mode():
        # Their iterations part, so one at a time.
        exact = DAN(model.config).double().eval()
        exact.load_state_dict(model.state_dict())
        low = copy.deepcopy(exact).to(dtype).double()
        expected = exact(lr.double(), 1)
        with RoundedTo(dtype):
            own = low(lr.double(), 1)
        plan = plan_for(model, dtype)
        whole = Whole(plan, lr)
        outcome = alternate(plan, whole, 1)

    def error(found, of):
        return (found.double() - of).square().mean().sqrt()

    assert whole.sr.dtype == dtype
    assert error(whole.sr, expected.sr) <= 2 * error(own.sr, expected.sr)
    assert outcome.estimate.code.dtype == torch.float32
    assert error(outcome.estimate.code, expected.code) <= 2 * error(own.code, expected.code)


def test_half_precision_does_not_meet_the_doubled_features():
    """Features of which 2^4 times as much does not fit into float16 do."""
    model = DAN(dan_fast.DANConfig(channels=16, groups=5, blocks=1, estimator_channels=16, estimator_blocks=1)).eval()
    with torch.no_grad():
        model.Restorer.head1.bias.fill_(2500)
        model.Restorer.fusion.weight *= 1e-3
    lr = torch.rand(1, 3, 8, 8)
    with torch.inference_mode():
        plan = plan_for(model, torch.float16)
        sr = plan.image(plan.restore(plan.prepare(lr), plan.first_condition))
        expected = model.Restorer(lr, model.init_ker_map)
        assert not model.half().Restorer(lr.half(), model.init_ker_map).isfinite().all()
    assert (sr - expected).abs().max() <= 0.02 * expected.abs().max()


