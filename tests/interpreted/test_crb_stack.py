"""``crb_stack`` with the Triton kernels of ``channel_attention``."""

from __future__ import annotations

import pytest
import torch
from support.networks import tiny_config
from support.rounding import RoundedTo

import dan_fast
from dan_fast.fast_model.v1 import crb_weights
from dan_fast.ops import crb_stack
from dan_fast.ops.crb_stack import crb_stack_ref


def network():
    return dan_fast.DAN(tiny_config(version="v1", groups=0, blocks=2, estimator_blocks=2)).requires_grad_(False)


@pytest.mark.parametrize("of", ["Restorer", "Estimator"])
@pytest.mark.parametrize("batch, height, width", [(1, 1, 1), (2, 3, 5), (1, 13, 17)])
def test_matches_reference(of, batch, height, width):
    module = getattr(network(), of)
    x = torch.randn(batch, 16, height, width)
    z = torch.randn(batch, 10) if of == "Restorer" else torch.randn(batch, 16, height, width)
    found = crb_stack(x, z, crb_weights(module))
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = crb_stack_ref(x.double(), z.double(), crb_weights(module.double()))
    assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()


def test_float16():
    module, x, z = network().Restorer, torch.randn(2, 16, 5, 7), torch.randn(2, 10)
    expected = crb_stack_ref(x.double(), z.double(), crb_weights(module.double()))
    with RoundedTo(torch.float16):
        rounded = crb_stack_ref(x.double(), z.double(), crb_weights(module.double()))
    half = x.half(), z.half(), crb_weights(module.half())
    allowed = 2 * (rounded - expected).abs().max()
    assert (crb_stack(*half) - expected).abs().max() <= allowed
