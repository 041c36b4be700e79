"""The Triton kernels of ``condition_path`` compile for every card, in every configuration that ships."""

from __future__ import annotations

import pytest
import torch
from dan_fast_kernels import condition_path, configs
from support.aot import CAPABILITIES, assert_fits, recorded

from dan_fast.ops.condition_path import TRITON_CHANNELS


def launches_of(channels: int, count: int, config: configs.Config, residual: str = "doubled", dtype=torch.float32):
    weight = torch.empty(count, channels, channels, dtype=dtype)
    bias = torch.empty(count, channels, dtype=dtype)
    modulation = torch.empty(2, count, channels)
    with recorded(condition_path) as launches:
        condition_path.forward(torch.empty(2, 10), torch.empty(channels, 10), torch.empty(channels), weight, bias,
                               weight, bias, 5, residual, config)
        condition_path.backward(modulation, modulation, weight, weight, 5, residual, config)
    assert [launch.kernel.__name__ for launch in launches] == ["forward_kernel", "backward_kernel"]
    return launches


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_configuration(capability):
    for config in configs.candidates_for(condition_path.CANDIDATES, capability):
        for launch in launches_of(64, 50, config):
            needs = assert_fits(launch, capability)
            # The weights are fetched ahead, past the registers.
            assert needs.count("LDGSTS") > 0


@pytest.mark.parametrize("residual, dtype", [("plain", torch.float32), ("doubled", torch.bfloat16)])
@pytest.mark.parametrize("channels", TRITON_CHANNELS)
def test_every_width(channels, residual, dtype):
    for launch in launches_of(channels, 15, condition_path.CANDIDATES[90][0], residual, dtype):
        assert_fits(launch, 90)
