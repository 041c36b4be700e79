"""``dpcg`` by the Triton kernels of ``conv3x3``."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_config
from rounding import RoundedTo

import dan_fast
from dan_fast.ops import dpcg, dpcg_weights
from dan_fast.ops.dpcg import dpcg_ref


def case(residual, batch=1, height=3, width=5):
    config = tiny_config(group_residual=residual, estimator_blocks=2)
    estimator = dan_fast.DAN(config).Estimator.requires_grad_(False)
    return estimator, torch.randn(batch, 16, height, width), torch.randn(batch, 16, height, width)


@pytest.mark.parametrize("residual", ["doubled", "plain"])
@pytest.mark.parametrize("batch, height, width", [(1, 1, 1), (2, 3, 5), (1, 13, 17)])
def test_matches_reference(residual, batch, height, width):
    estimator, x, z = case(residual, batch, height, width)
    found = dpcg(x, z, dpcg_weights(estimator))
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected = dpcg_ref(x.double(), z.double(), dpcg_weights(estimator.double()))
    assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()


def test_float16():
    estimator, x, z = case("doubled", 2)
    expected = dpcg_ref(x.double(), z.double(), dpcg_weights(estimator.double()))
    with RoundedTo(torch.float16):
        rounded = dpcg_ref(x.double(), z.double(), dpcg_weights(estimator.double()))
    half = x.half(), z.half(), dpcg_weights(estimator.half())
    allowed = 2 * (rounded - expected).abs().max()
    assert (dpcg(*half) - expected).abs().max() <= allowed
