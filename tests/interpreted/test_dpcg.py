"""``dpcg`` by the Triton kernels of ``conv3x3``."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support.networks import tiny_config
from support.rounding import RoundedTo

import dan_fast
from dan_fast.fast_model.v2 import dpcg_weights
from dan_fast.ops import dpcg
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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_values(dtype):
    estimator, x, z = case("doubled", 2)
    expected = dpcg_ref(x.double(), z.double(), dpcg_weights(estimator.double()))
    with RoundedTo(dtype):
        rounded = dpcg_ref(x.double(), z.double(), dpcg_weights(estimator.double()))
    short = x.to(dtype), z.to(dtype), dpcg_weights(estimator.to(dtype))
    allowed = 2 * (rounded - expected).abs().max()
    assert (dpcg(*short) - expected).abs().max() <= allowed


@pytest.mark.parametrize("of", [
    lambda x: x.contiguous(),
    lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    lambda x: torch.stack((x, x), 3)[:, :, :, 1],
    lambda x: torch.cat((x.new_zeros(1), x.permute(0, 2, 3, 1).flatten()))[1:].view(2, 5, 7, 16).permute(0, 3, 1, 2),
], ids=["contiguous", "transposed", "sliced", "unaligned"])
def test_any_strides(of):
    estimator, x, z = case("plain", 2, 5, 7)
    x, z = (image.contiguous(memory_format=torch.channels_last) for image in (x, z))
    before = x.clone(), z.clone()
    expected = dpcg(x, z, dpcg_weights(estimator))
    assert torch.equal(x, before[0]) and torch.equal(z, before[1])
    assert torch.equal(dpcg(of(x), of(z), dpcg_weights(estimator)), expected)


def shipped():
    """Every tile that ships, once for each way to load it and to multiply."""
    from dan_fast_kernels import dpcg as kernels

    return {"{BOXES} {SWAP} {TH}x{TW}".format(**config): config for every in (kernels.FIRST, kernels.SECOND)
            for tiles in every.values() for found in tiles.values() for config in found}


def pytest_generate_tests(metafunc):
    if "config" in metafunc.fixturenames:
        pytest.importorskip("triton", reason="triton is not installed")
        metafunc.parametrize("config", shipped().values(), ids=shipped())


@pytest.mark.parametrize("batch, height, width", [(3, 1, 1), (2, 5, 18)])
def test_every_configuration_computes_whole_numbers_exactly(config, batch, height, width):
    from dan_fast_kernels import dpcg as kernels

    def whole(*shape):
        return torch.randint(-3, 4, shape).float().contiguous(
            memory_format=torch.channels_last if len(shape) == 4 else torch.contiguous_format)

    images = [whole(batch, 16, height, width) for _ in range(4)]
    layers = whole(16, 16, 3, 3), whole(16), whole(16, 16, 3, 3), whole(16)
    x, z, activated, z_activated = (tensor.double() for tensor in images)
    weight, bias, z_weight, z_bias = (tensor.double() for tensor in layers)

    found = kernels.first(*images[:2], *layers, 0.25, config)
    for image, exact in zip(found, (F.leaky_relu(F.conv2d(x, weight, bias, padding=1), 0.25),
                                    F.leaky_relu(F.conv2d(z, z_weight, z_bias, padding=1), 0.25)), strict=True):
        assert torch.equal(image.double(), exact)
    f2 = F.conv2d(z_activated, z_weight, z_bias, padding=1)
    exact = 2 * (x + f2 * F.conv2d(activated, weight, bias, padding=1))
    for last in (False, True):
        out, z_out = kernels.second(*images[2:], *layers, *images[:2], 2.0, last, config)
        assert torch.equal(out.double(), exact)
        assert z_out is None if last else torch.equal(z_out.double(), z + f2)


def test_launches_of_a_body(launched):
    """Two per block: 10 for the 5 blocks of the published v2."""
    estimator, x, z = case("doubled")
    dpcg(x, z, dpcg_weights(estimator))
    assert launched == 2 * ["first_kernel", "second_kernel"]
