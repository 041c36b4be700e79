"""The Triton kernels of ``dpcg`` compile for every card, in every configuration that ships, to tensor-core code."""

from __future__ import annotations

import pytest
import torch
from dan_fast_kernels import configs, conv3x3, dpcg
from support.aot import CAPABILITIES, assert_fits, recorded
from test_conv3x3_compiles import TENSOR_CORES, image

from dan_fast.ops.conv3x3 import TRITON_CHANNELS


def record(channels, dtype, capability):
    """Launches with each configuration for the capability."""
    x, weight, bias = image(channels, dtype), image(channels, dtype, (channels, 3, 3)), torch.empty(channels)
    layers = weight, bias, weight, bias
    with recorded(dpcg) as launches:
        for config in configs.candidates_for(conv3x3.candidates_of(dpcg.FIRST, x), capability):
            dpcg.first(x, x, *layers, 0.2, config)
        for number, config in enumerate(configs.candidates_for(conv3x3.candidates_of(dpcg.SECOND, x), capability)):
            dpcg.second(x, x, *layers, x, x, 1.0, False, config)
            if not number:
                dpcg.second(x, x, *layers, x, x, 2.0, True, config)
    assert {launch.kernel for launch in launches} == {dpcg.first_kernel, dpcg.second_kernel}
    return launches


@pytest.mark.parametrize("channels", TRITON_CHANNELS)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_configuration(capability, channels):
    for launch in record(channels, torch.bfloat16, capability):
        needs = assert_fits(launch, capability)
        assert needs.count(TENSOR_CORES[capability]), needs
        assert needs.count("UTMALDG" if launch.arguments["BOXES"] else r"LDGSTS.*\.128"), needs
        assert needs.count(r"STG.*\.128"), needs
    assert launch.arguments["BOXES"] == (9 if capability in (90, 100) else 0)


def test_loads_take_shared_memory_once():
    """The first launch chooses what it loads, not which of two loops it runs."""
    for launch in record(32, torch.bfloat16, 90):
        if launch.kernel is dpcg.first_kernel and launch.arguments["BOXES"]:
            stage = 2 * 32 * (launch.arguments["TH"] * launch.arguments["TW"] + 32)
            assert assert_fits(launch, 90).shared <= launch.options["num_stages"] * stage


@pytest.mark.slow
@pytest.mark.parametrize("tf32", [False, True], ids=["ieee", "tf32"])
@pytest.mark.parametrize("channels", TRITON_CHANNELS)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_float32(capability, channels, tf32, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    for launch in record(channels, torch.float32, capability):
        needs = assert_fits(launch, capability)
        assert bool(needs.count(TENSOR_CORES[capability])) == tf32, needs


@pytest.mark.parametrize("capability", [80, 90])
def test_starts_early_where_the_gpu_can(capability, monkeypatch):
    monkeypatch.setattr(configs, "capability", lambda device: capability)
    for launch in record(16, torch.bfloat16, capability)[::4]:
        needs = assert_fits(launch, capability)
        early = capability >= 90
        assert launch.options["launch_pdl"] == early
        assert bool(needs.count("ACQBULK")) == bool(needs.count("PREEXIT")) == early, needs
