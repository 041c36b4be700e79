"""The Triton kernel of ``convolution`` and ``upsampler`` compiles for every card, in every configuration that ships."""

from __future__ import annotations

import pytest
import torch
from dan_fast_kernels import configs, convolution
from support.aot import CAPABILITIES, assert_fits, recorded

SIZES = [(64, 64), (340, 510)]  # many of the kernel's numbers are multiples of 16, and none


def launches(dtype: torch.dtype, capability: int, height: int, width: int, channels: int = 64):
    """Launches both heads of a network and its upsampler in every configuration."""
    def image(count: int, given: torch.dtype) -> torch.Tensor:
        return torch.empty(1, count, height, width, dtype=given).to(memory_format=torch.channels_last)

    def weight(out: int, into: int, size: int) -> torch.Tensor:
        return torch.empty(out, into, size, size, dtype=dtype).to(memory_format=torch.channels_last)

    with recorded(convolution) as found:
        for config in configs.candidates_for(convolution.TILES[8 * dtype.itemsize], capability):
            for into, out, size in ((3, channels, 3), (48, 32, 5)):
                x = torch.empty(1, 3, height, width) if into == 3 else image(into, dtype)
                convolution.convolution(x, weight(out, into, size), torch.empty(out), config)
            convolution.upsampler(image(channels, dtype), weight(48, channels, 11), torch.empty(3, 3, 48), config)
    return found


@pytest.mark.parametrize("height, width", SIZES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_configuration(capability, dtype, height, width):
    found = launches(dtype, capability, height, width)
    assert len(found) == 3 * len(configs.candidates_for(convolution.TILES[8 * dtype.itemsize], capability))
    for launch in found:
        needs = assert_fits(launch, capability)
        if dtype == torch.bfloat16:
            assert needs.count("HMMA|HGMMA|UTCHMMA|UTCQMMA|UTC.*MMA"), "no matrix instruction"


def test_tensor_float_32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    for launch in launches(torch.float32, 90, *SIZES[1]):
        assert launch.arguments["PRECISION"] == "tf32"
        assert_fits(launch, 90)
