"""The Triton kernel of ``next_condition`` against the references in float64, and against the two that it joins."""

from __future__ import annotations

import pytest
import torch
from support.networks import tiny_config

import dan_fast
from dan_fast.fast_model.dual_path import condition_weights
from dan_fast.fast_model.v2 import tail_weights
from dan_fast.ops import condition_path, estimator_tail, next_condition
from dan_fast.ops.next_condition import next_condition_ref


def network(residual="doubled", **changes):
    config = tiny_config(groups=2, blocks=3, group_residual=residual, kernel_size=9, **changes)
    return dan_fast.DAN(config).requires_grad_(False)


def weights(model):
    return *tail_weights(model.Estimator), model.encoder[0], *condition_weights(model.Restorer)


@pytest.mark.parametrize("residual", ["doubled", "plain"])
@pytest.mark.parametrize("batch, height, width", [(1, 1, 1), (3, 5, 4), (2, 13, 17)])
def test_matches_reference(residual, batch, height, width):
    model, x = network(residual), torch.randn(batch, 16, height, width)
    found = next_condition(x, *weights(model))
    exact = next_condition_ref(x.double(), *weights(model.double()))
    for a, e in zip(found, exact, strict=True):
        assert a.shape == e.shape and a.dtype == torch.float32 and a.is_contiguous()
        assert (a - e).abs().max() <= 2e-6 * e.abs().max()


def test_other_widths_and_16_bit_images():
    """The Restorer has more channels than the Estimator, and the length of the code is not a power of two."""
    model = network(channels=32, code_length=11)
    x = torch.randn(2, 16, 6, 5).bfloat16()
    found = next_condition(x, *weights(model))
    kernel, code = estimator_tail(x, *weights(model)[:5])
    assert torch.equal(found[0], kernel) and torch.equal(found[1], code)
    torch.testing.assert_close(found[2], condition_path(code, *condition_weights(model.Restorer)), rtol=0, atol=0)
