"""The iteration that is trained, computed by the Triton kernels."""

from __future__ import annotations

import copy

import pytest
import torch
from support.networks import tiny_config

import dan_fast
from dan_fast.fast_model.learning import iteration

V1 = {"version": "v1", "groups": 0, "blocks": 2, "upsampler": "published"}
CONFIGS = {"v2": {"estimator_blocks": 2}, "v2, doubled": {"group_residual": "doubled"}, "v2, all": {"gradient": "all"},
           "v1": V1, "v1, all": {**V1, "gradient": "all"}}


def gradients(step, model, lr, code, weights):
    """The gradients of every parameter and of the code, and the outputs."""
    code = code.requires_grad_()
    out = step(model, lr, code)
    sum((value * weight.to(value)).sum() for value, weight in zip(out, weights, strict=True) if value is not None
        ).backward()
    return [*(value for value in out if value is not None), code.grad, *(p.grad for p in model.parameters())]


@pytest.mark.parametrize("name", CONFIGS)
def test_matches_the_model(name):
    model = dan_fast.DAN(tiny_config(scale=2, kernel_size=9, **CONFIGS[name]))
    exact = copy.deepcopy(model).double()
    lr = torch.rand(2, 5, 7, 3).permute(0, 3, 1, 2)
    code = torch.randn(2, model.config.code_length)
    weights = [torch.randn(2, 3, 10, 14), torch.randn(2, 9, 9), torch.randn(2, model.config.code_length)]
    expected = gradients(dan_fast.DAN.step, exact, lr.double(), code.double(), weights)
    for found, true in zip(gradients(iteration, model, lr, code.clone(), weights), expected, strict=True):
        if true is None:  # the code is not reached, as it is published
            assert found is None
        else:
            assert (found - true).abs().max() <= 2e-5 * true.abs().max()
