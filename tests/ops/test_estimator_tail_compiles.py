"""The Triton kernels of ``estimator_tail`` compile for every card, in every configuration that ships."""

from __future__ import annotations

import pytest
import torch
from dan_fast_kernels import configs, estimator_tail
from support.aot import CAPABILITIES, assert_fits, recorded


def launches_of(channels=32, side=21, length=10, size=(64, 64), dtype=torch.bfloat16, weight_dtype=torch.float32,
                layout=torch.contiguous_format, config=None):
    features, taps = 2 * channels, side * side
    x = torch.empty(2, channels, *size, dtype=dtype).to(memory_format=torch.channels_last)
    weights = [torch.empty(shape, dtype=weight_dtype)
               for shape in ((features, channels, 3, 3), (features,), (taps, features), (taps,), (taps, length))]
    weights[0] = weights[0].to(memory_format=layout)
    with recorded(estimator_tail) as launches:
        estimator_tail.forward(x, *weights, config)
    assert [launch.kernel.__name__ for launch in launches] == ["sum_kernel", "tail_kernel"]
    return launches


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_configuration(capability):
    for config in configs.candidates_for(estimator_tail.CANDIDATES, capability):
        sums, tail = launches_of(config=config)
        needs = assert_fits(sums, capability)
        # Images are read 16 bytes a thread at a time.
        tile = 2 * sums.arguments["ROWS"] * sums.arguments["COLUMNS"]
        assert needs.count(r"LDG.*\.128") >= tile // (16 * 32 * config["num_warps"])
        assert_fits(tail, capability)


@pytest.mark.parametrize("channels, side, length", [(16, 21, 10), (32, 31, 15), (64, 11, 10), (64, 31, 15)])
@pytest.mark.parametrize("capability, dtype", [(80, torch.float32), (90, torch.bfloat16)], ids=str)
def test_every_network(channels, side, length, capability, dtype):
    for launch in launches_of(channels, side, length, dtype=dtype, weight_dtype=dtype, layout=torch.channels_last):
        assert_fits(launch, capability)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (13, 17)], ids=str)
def test_sizes_that_triton_specialises(size):
    for launch in launches_of(size=size):
        assert_fits(launch, 90)
