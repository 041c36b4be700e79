"""``dpcb_stack`` by the Triton kernels of ``conv3x3``, and the number of launches of a network's body."""

from __future__ import annotations

import pytest
import torch
from support.networks import tiny_config
from support.rounding import RoundedTo

import dan_fast
from dan_fast.fast_model.dual_path import condition_weights, dpcb_weights
from dan_fast.ops import condition_path, dpcb_stack
from dan_fast.ops.dpcb_stack import dpcb_stack_ref


def case(residual, batch=1, height=3, width=5, groups=2, blocks=2):
    config = tiny_config(channels=16, groups=groups, blocks=blocks, group_residual=residual)
    restorer = dan_fast.DAN(config).Restorer.requires_grad_(False)
    return restorer, torch.randn(batch, 16, height, width), torch.randn(batch, groups * blocks, 16)


@pytest.mark.parametrize("residual", ["doubled", "plain"])
@pytest.mark.parametrize("batch, height, width", [(1, 1, 1), (2, 3, 5), (1, 13, 17)])
def test_matches_reference(residual, batch, height, width):
    restorer, x, modulation = case(residual, batch, height, width)
    found = dpcb_stack(x, dpcb_weights(restorer), modulation)
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = dpcb_stack_ref(x.double(), dpcb_weights(restorer.double()), modulation.double())
    assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()


@pytest.mark.parametrize("of", [
    lambda s: s.transpose(0, 1).contiguous().transpose(0, 1),
    lambda s: s.mT.contiguous().mT,
    lambda s: s[:1].expand_as(s),
    lambda s: torch.stack((s, s), 2)[:, :, 1],
], ids=["by block", "transposed", "expanded", "sliced"])
def test_factors_are_read_where_they_lie(of):
    restorer, x, modulation = case("doubled", 2)
    expected = dpcb_stack(x, dpcb_weights(restorer), of(modulation).contiguous())
    assert torch.equal(dpcb_stack(x, dpcb_weights(restorer), of(modulation)), expected)


def test_float16_with_factors_in_float32():
    restorer, x, modulation = case("doubled", 2)
    expected = dpcb_stack_ref(x.double(), dpcb_weights(restorer.double()), modulation.double())
    with RoundedTo(torch.float16):
        rounded = dpcb_stack_ref(x.double(), dpcb_weights(restorer.double()), modulation.double())
    half = x.half(), dpcb_weights(restorer.half()), modulation
    allowed = 2 * (rounded - expected).abs().max()
    assert (dpcb_stack(*half) - expected).abs().max() <= allowed


def test_launches_of_a_body(launched):
    """Two per block, and one for the whole condition path: 101 for the 50 blocks of the published v2."""
    restorer, x, _ = case("doubled")
    dpcb_stack(x, dpcb_weights(restorer), condition_path(torch.randn(1, 10), *condition_weights(restorer)))
    assert launched == ["forward_kernel"] + 4 * ["pointer_kernel", "pointer_kernel"]
