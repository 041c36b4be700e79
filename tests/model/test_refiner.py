"""The Refiner of the reference model: what it changes, and when."""

from __future__ import annotations

import pytest
import torch
from support.networks import REFINER, tiny_config, tiny_network

from dan_fast import DAN
from dan_fast.model.restorer import Refiner


def without_refiner(model: DAN) -> DAN:
    """The same network without its Refiner."""
    plain = DAN(tiny_config(scale=model.config.scale)).double()
    state = model.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    return plain


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_it_changes_the_last_result_and_nothing_else(scale):
    model = tiny_network(scale=scale, **REFINER).double()
    lr = torch.rand(2, 3, 7, 9, dtype=torch.float64)
    plain, refined = without_refiner(model).iterate(lr, 3), model.iterate(lr, 3)
    for before, after in zip(plain[:-1], refined[:-1], strict=True):
        assert torch.equal(before.sr, after.sr)
    for before, after in zip(plain, refined, strict=True):
        assert torch.equal(before.kernel, after.kernel) and torch.equal(before.code, after.code)
    # The code is the one that the last Restorer pass was given.
    expected = model.Refiner(lr, plain[-1].sr, plain[-2].code)
    assert torch.equal(refined[-1].sr, expected)
    assert (refined[-1].sr - plain[-1].sr).abs().max() > 1e-3


def test_a_new_one_adds_nothing():
    model, lr = DAN(tiny_config(**REFINER)).double(), torch.rand(2, 3, 7, 9, dtype=torch.float64)
    assert torch.equal(model(lr).sr, without_refiner(model)(lr).sr)


def test_it_sees_the_result_the_image_and_the_code():
    model = tiny_network(**REFINER).double()
    given = [torch.rand(1, 3, 6, 5, dtype=torch.float64), torch.rand(1, 3, 24, 20, dtype=torch.float64),
             torch.rand(1, 10, dtype=torch.float64)]
    for tensor in given:
        tensor.requires_grad_()
    detail = model.Refiner(*given) - given[1]
    assert all(gradient.abs().max() > 0 for gradient in torch.autograd.grad(detail.sum(), given))


def test_a_network_without_one_has_none():
    model = DAN(tiny_config())
    assert model.Refiner is None and not any("Refiner" in name for name in model.state_dict())
    assert isinstance(DAN(tiny_config(**REFINER)).Refiner, Refiner)


@pytest.mark.parametrize("gradient", ["last", "all"])
def test_gradients_reach_every_module(gradient):
    model = tiny_network(gradient=gradient, **REFINER).double()
    out = model(torch.rand(1, 3, 7, 9, dtype=torch.float64))
    (out.sr.square().sum() + out.kernel.square().sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())
