"""The Triton kernels of ``channel_attention`` compile for every card, in every configuration that ships."""

from __future__ import annotations

import pytest
import torch
from dan_fast_kernels import channel_attention, configs
from support.aot import CAPABILITIES, assert_fits, recorded


def case(dtype: torch.dtype, channels: int, weight_dtype=torch.float32):
    hidden = max(1, channels // 16)
    y, residual = (torch.empty(2, channels, 64, 64, dtype=dtype).to(memory_format=torch.channels_last)
                   for _ in range(2))
    shapes = (hidden, channels), (hidden,), (channels, hidden), (channels,)
    return y, *(torch.empty(shape, dtype=weight_dtype) for shape in shapes), residual


def launches_of(y, *weights_and_residual, config=None):
    *weights, residual = weights_and_residual
    with recorded(channel_attention) as launches:
        channel_attention.forward(y, *weights, residual, config)
        channel_attention.backward(residual, y, *weights, torch.empty(y.shape[:2]), config)
    return launches


@pytest.mark.parametrize("capability, dtype", [*((capability, torch.bfloat16) for capability in CAPABILITIES),
                                               (80, torch.float32)])
def test_every_configuration(capability, dtype):
    for config in configs.candidates_for(channel_attention.CANDIDATES, capability):
        launches = launches_of(*case(dtype, 64), config=config)
        assert [launch.kernel.__name__ for launch in launches] == [
            "sum_kernel", "forward_kernel", "sum_kernel", "backward_kernel"]
        for launch in launches:
            needs = assert_fits(launch, capability)
            # Images are read 16 bytes a thread at a time.
            tile = launch.arguments["ROWS"] * launch.arguments["COLUMNS"] * dtype.itemsize
            assert needs.count(r"LDG.*\.128") >= tile // (16 * 32 * launch.options["num_warps"])


@pytest.mark.parametrize("channels", [16, 32, 100])
def test_other_channels(channels):
    for launch in launches_of(*case(torch.float16, channels, torch.float16)):
        assert_fits(launch, 90)
