"""Plans against the plain model: the same result, whatever was computed in another way or not at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import tiny_config

import dan_fast
from dan_fast.inference.collapse import CollapsedUpsampler
from dan_fast.inference.plan import Plan, PlanV2, plan_for
from dan_fast.model import DAN

BOUND = 1e-5


def assert_close(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= BOUND * expected.abs().max()


def assert_like_model(model, batch, height, width):
    lr = torch.rand(batch, model.config.image_channels, height, width)
    with torch.inference_mode():
        plan = plan_for(model)
        assert isinstance(plan, PlanV2)
        outputs = model.iterate(lr)
        codes = [model.init_ker_map.expand(batch, -1), *(out.code for out in outputs)]
        found, code = plan.last(lr)
        for a, b in zip((*found, code, plan.sr(lr), plan.restore(lr, code)),
                        (*outputs[-1], codes[-2], outputs[-1].sr, model.Restorer(lr, codes[-2])), strict=True):
            assert_close(a, b)


@pytest.mark.parametrize("residual", ["doubled", "plain"])
@pytest.mark.parametrize("upsampler", ["published", "direct"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_small_networks(scale, upsampler, residual):
    model = DAN(tiny_config(scale=scale, upsampler=upsampler, group_residual=residual, groups=2, blocks=2)).eval()
    for size in ((1, 1), (7, 13), (17, 6)):
        assert_like_model(model, 2, *size)


@pytest.mark.parametrize("name", dan_fast.available())
def test_trained_weights(name):
    assert_like_model(dan_fast.load(name), 2, 19, 30)


def test_published_shape():
    # Random weights make the features of 50 doubled blocks large: that is where rounding would show.
    assert_like_model(DAN(dan_fast.DANConfig()).eval(), 1, 9, 12)


@pytest.mark.parametrize("changes", [{"channels": 12}, {"image_channels": 1}, {"iterations": 1}])
def test_other_networks(changes):
    assert_like_model(DAN(tiny_config(**changes)).eval(), 3, 6, 5)


def test_the_published_upsampler_is_one_convolution():
    """And its border is right to the last pixel: all other sizes here, too."""
    model = DAN(dan_fast.DANConfig(groups=1, blocks=1)).double().eval()
    upsampler = CollapsedUpsampler(model.Restorer.upscale, 64, 4)
    features = torch.randn(2, 64, 9, 11, dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(upsampler(features), model.Restorer.upscale(features))
    assert upsampler.weight.shape == (48, 64, 5, 5)


def test_the_last_estimator_is_skipped_where_nothing_needs_it(monkeypatch):
    model = DAN(tiny_config(iterations=3)).eval()
    plan, lr = plan_for(model), torch.rand(1, 3, 8, 8)
    calls = []
    model.Estimator.tail.register_forward_hook(lambda *_: calls.append(1))
    plan.sr(lr)
    assert len(calls) == 2
    plan.last(lr)
    assert len(calls) == 5


@pytest.mark.parametrize("model", [
    DAN(tiny_config()).double(), DAN(tiny_config(version="v1", groups=0))], ids=["float64", "v1"])
def test_everything_else_is_the_plain_model(model):
    model.eval()
    plan = plan_for(model)
    assert type(plan) is Plan
    lr = torch.rand(2, 3, 7, 9, dtype=model.encoder.dtype)
    with torch.inference_mode():
        outputs = model.iterate(lr)
        found, code = plan.last(lr)
        assert torch.equal(found.sr, outputs[-1].sr) and torch.equal(code, outputs[-2].code)
        assert torch.equal(plan.sr(lr), outputs[-1].sr)
        assert torch.equal(plan.restore(lr, code), outputs[-1].sr)


def test_the_upscaler_uses_it():
    upscaler = dan_fast.Upscaler(DAN(tiny_config()), tile=16)
    assert isinstance(upscaler.plan, PlanV2)
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    fast = upscaler(image)
    upscaler.plan = Plan(upscaler.model)
    plain = upscaler(image)
    assert np.abs(fast.image.astype(int) - plain.image).max() <= 1
    np.testing.assert_allclose(fast.kernel, plain.kernel, atol=1e-6)
