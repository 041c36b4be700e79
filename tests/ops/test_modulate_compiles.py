"""The Triton kernels of ``modulate`` compile for every card, in every configuration that ships."""

from __future__ import annotations

import pytest
import torch
from dan_fast_kernels import configs, modulate
from support.aot import CAPABILITIES, assert_fits, recorded


def case(dtype: torch.dtype, channels: int):
    x, f1 = (torch.empty(2, channels, 64, 64, dtype=dtype).to(memory_format=torch.channels_last) for _ in range(2))
    return x, f1, torch.empty(2, channels), torch.empty(channels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_configuration(capability, dtype):
    arguments = case(dtype, 64)
    forward, backward = (configs.candidates_for(found, capability) for found in (modulate.FORWARD, modulate.BACKWARD))
    with recorded(modulate) as launches:
        for config in forward:
            modulate.forward(*arguments, config)
        for config in backward:
            modulate.backward(*arguments, config)
    reduction = launches.pop()  # the same in every configuration
    launches = [launch for launch in launches if launch.kernel is not reduction.kernel]
    assert len(launches) == len(forward) + len(backward)
    assert_fits(reduction, capability)
    for launch in launches:
        needs = assert_fits(launch, capability)
        # Images are read and written 16 bytes a thread at a time.
        images = 2 * launch.arguments["ROWS"] * launch.arguments["COLUMNS"] * dtype.itemsize
        assert needs.count(r"LDG.*\.128") >= images // (16 * 32 * launch.options["num_warps"])
        assert needs.count(r"STG.*\.128") >= images // (32 * 32 * launch.options["num_warps"])


@pytest.mark.parametrize("channels", [16, 32, 100])
def test_other_channels_and_no_bias(channels):
    x, f1, f2, _ = case(torch.float16, channels)
    with recorded(modulate) as launches:
        modulate.forward(x, f1, f2, None)
        modulate.backward(x, f1, f2, None)
    assert {launch.kernel.__name__ for launch in launches} == {"forward_kernel", "backward_kernel", "reduce_kernel"}
    for launch in launches:
        assert_fits(launch, 90)
