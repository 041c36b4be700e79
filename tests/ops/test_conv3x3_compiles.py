"""The Triton kernels of ``conv3x3`` compile for every card, in every configuration that ships, to tensor-core code."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from dan_fast_kernels import configs, conv3x3
from support.aot import CAPABILITIES, SHARED_LIMIT, assert_fits, compiled, recorded

from dan_fast.ops.conv3x3 import TRITON_CHANNELS

TENSOR_CORES = {80: "HMMA", 89: "HMMA", 90: "HGMMA", 100: "UTC.*MMA"}


@pytest.fixture(params=[False, True], ids=["ieee", "tf32"])
def tf32(request, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", request.param)
    return request.param


def image(channels, dtype, size=(2, 64, 64)):
    return torch.empty(size[0], channels, *size[1:], dtype=dtype).to(memory_format=torch.channels_last)


def record(channels, dtype, chosen, every_epilogue=False):
    """Launches with each configuration, of the epilogue that takes most registers or of every epilogue."""
    x, weight = image(channels, dtype), image(channels, dtype, (channels, 3, 3))
    bias, modulation = torch.empty(channels), torch.empty(2, channels)
    with recorded(conv3x3) as launches:
        for config in chosen:
            conv3x3.scale_residual(x, weight, bias, modulation, x, True, config)
            if every_epilogue:
                conv3x3.scale_residual(x, weight, bias, modulation, x, False, config)
                conv3x3.scale_residual(x, weight, bias, x, x, True, config)
                conv3x3.bias_lrelu(x, weight, bias, 0.2, config)
                conv3x3.input_gradient(x, weight, x, 0.2, None, config)
                conv3x3.activation_gradient(x, weight, x, 0.2, config)
                conv3x3.input_gradient(x, weight, None, 0.0, x, config)
                conv3x3.input_gradient(x, weight, None, 0.0, None, config)
    return launches


def assert_good(launch, capability):
    needs = assert_fits(launch, capability)
    tile = launch.arguments["TH"] * launch.arguments["TW"] * launch.arguments["C"] * 2
    threads = 32 * launch.options["num_warps"]
    assert needs.count(TENSOR_CORES[capability]), needs
    # Values come by the copy engine, or 16 bytes a thread at a time past the registers; results leave in 16 bytes.
    assert needs.count(r"LDGSTS.*\.128" if launch.kernel is conv3x3.pointer_kernel else "UTMALDG"), needs
    assert needs.count(r"STG.*\.128") >= max(1, tile // (16 * threads)), needs
    return needs


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("channels", TRITON_CHANNELS)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_configuration(capability, channels, dtype):
    chosen = configs.candidates_for(conv3x3.TILES[16, channels], capability)
    launches = record(channels, dtype, chosen if dtype == torch.bfloat16 or channels == 64 else chosen[:1])
    assert launches
    for launch in launches:
        assert_good(launch, capability)
    assert (launches[0].kernel is conv3x3.descriptor_kernel) == (capability in (90, 100))


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_epilogue(capability):
    launches = record(64, torch.bfloat16, configs.candidates_for(conv3x3.TILES[16, 64], capability)[:1], True)
    assert Counter(launch.arguments["EPILOGUE"] for launch in launches) == {"add": 5, "mask": 2, "lrelu": 1}
    for launch in launches:
        assert_good(launch, capability)


@pytest.mark.parametrize("channels", TRITON_CHANNELS)
@pytest.mark.parametrize("capability", [90, 100])
def test_without_descriptors(capability, channels, monkeypatch):
    """The GPU kernel in their place compiles too, even where tuning chose the copy engine."""
    fastest = conv3x3.TILES[16, channels][90][0]
    for size in ((2, 64, 64), (2, 250, 250)):
        x = image(channels, torch.bfloat16, size)
        monkeypatch.delenv("DAN_FAST_WITHOUT", raising=False)
        assert any(config["BOXES"] for config in configs.candidates_for(conv3x3.candidates(x), capability))
        monkeypatch.setenv("DAN_FAST_WITHOUT", "descriptors")
        tiles = configs.candidates_for(conv3x3.candidates(x), capability)
        assert not any(config["BOXES"] for config in tiles)
        monkeypatch.setattr(configs, "choose", lambda *_: fastest)
        assert conv3x3.chosen("conv3x3", x, conv3x3.candidates(x)) in tiles
        with recorded(conv3x3) as launches:
            conv3x3.bias_lrelu(x, image(channels, torch.bfloat16, (channels, 3, 3)), torch.empty(channels), 0.2)
        assert launches[0].kernel is conv3x3.pointer_kernel
        assert_good(launches[0], capability)


@pytest.mark.parametrize("channels", TRITON_CHANNELS)
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_float32(capability, channels, tf32):
    chosen = configs.candidates_for(conv3x3.TILES[19 if tf32 else 32, channels], capability)
    for launch in record(channels, torch.float32, chosen):
        needs = assert_fits(launch, capability)
        assert bool(needs.count(TENSOR_CORES[capability])) == tf32, needs


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("boxes", [False, True], ids=["pointers", "descriptors"])
def test_starts_early_where_the_gpu_can(capability, boxes, monkeypatch):
    """ACQBULK waits for the kernel before, ahead of every other access to memory; PREEXIT lets the next one start."""
    chosen = conv3x3.descriptors(8, 16, 4, 3) if boxes and capability >= 90 else conv3x3.pointers(8, 16, 4, 3)
    monkeypatch.setattr(configs, "capability", lambda device: capability)
    for left_out in ("", "programmatic_launch"):
        monkeypatch.setenv("DAN_FAST_WITHOUT", left_out)
        launch, = record(32, torch.bfloat16, [chosen])
        early = capability >= 90 and not left_out
        assert launch.options["launch_pdl"] == launch.arguments["EARLY"] == early
        needs = assert_good(launch, capability)
        assert bool(needs.count("ACQBULK")) == bool(needs.count("PREEXIT")) == early, needs
        names = list(needs.instructions)  # in the order in which each is first met
        touches = [names.index(name) for name in names if name.startswith(("LDG", "STG", "UTMALDG", "LDGSTS"))]
        assert not early or names.index("ACQBULK") < min(touches), needs


def test_desktops_of_generation_12():
    """GPUs of capability 12 have the shared memory and the tensor cores of 8.9, and take its configurations."""
    for launch in record(64, torch.bfloat16, configs.candidates_for(conv3x3.TILES[16, 64], 120)):
        needs = compiled(launch, 120)
        assert needs.spills == needs.stack == 0 and needs.shared <= SHARED_LIMIT[89], needs
        assert needs.count("HMMA"), needs


def test_small_images_take_small_tiles():
    def pixels(size):
        first = conv3x3.candidates(image(64, torch.bfloat16, size))[90][0]
        return first["TH"] * first["TW"]
    assert pixels((1, 64, 64)) < pixels((1, 510, 340))


def test_float32_takes_what_pytorch_says(tf32):
    x = image(32, torch.float32)
    with recorded(conv3x3) as launches:
        conv3x3.bias_lrelu(x, image(32, torch.float32, (32, 3, 3)), torch.empty(32), 0.2)
    assert launches[0].arguments["PRECISION"] == ("tf32" if tf32 else "ieee")
    assert conv3x3.name() == ("conv3x3_tf32" if tf32 else "conv3x3")
