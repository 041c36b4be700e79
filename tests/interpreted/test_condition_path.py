"""The Triton kernels of ``condition_path`` against the reference in float64, values and gradients."""

from __future__ import annotations

import pytest
import torch
from support.accuracy import assert_accurate

from dan_fast.ops import backend, condition_path
from dan_fast.ops.condition_path import condition_path_ref


def case(batch, groups, blocks, channels, length=10, dtype=torch.float32):
    count = groups * blocks
    size = 0.7 / channels**0.5  # z neither dies nor explodes
    return [torch.randn(batch, length), torch.randn(channels, length), torch.randn(channels),
            *(tensor for _ in range(2) for tensor in (torch.randn(count, channels, channels).mul(size).to(dtype),
                                                      torch.randn(count, channels).mul(0.1).to(dtype)))]


def assert_right(tensors, blocks, residual):
    assert_accurate(lambda *tensors: condition_path(*tensors, blocks, residual),
                    lambda *tensors: condition_path_ref(*tensors, blocks, residual),
                    [tensor.requires_grad_() for tensor in tensors])


@pytest.mark.parametrize("residual", ["doubled", "plain"])
@pytest.mark.parametrize("batch, groups, blocks, channels, length", [
    (1, 5, 10, 64, 10), (3, 3, 4, 32, 10), (17, 2, 2, 16, 15), (2, 1, 1, 32, 1), (1, 4, 1, 16, 16),
])
def test_matches_reference(batch, groups, blocks, channels, length, residual):
    assert_right(case(batch, groups, blocks, channels, length), blocks, residual)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_weights(dtype):
    assert_right(case(2, 2, 2, 32, dtype=dtype), 2, "plain")


def test_weights_in_any_memory_order():
    tensors = case(2, 1, 3, 16)
    expected = condition_path(*tensors, 3, "plain")
    tensors[3], tensors[5] = (tensors[n].transpose(1, 2).contiguous().transpose(1, 2) for n in (3, 5))
    tensors[0] = tensors[0].repeat(1, 2)[:, :10]
    assert torch.equal(condition_path(*tensors, 3, "plain"), expected)


def test_no_images():
    tensors = [tensor.requires_grad_() for tensor in case(0, 1, 2, 16)]
    out = condition_path(*tensors, 2, "plain")
    assert out.shape == (0, 2, 16)
    assert all(not grad.any() for grad in torch.autograd.grad(out.sum(), tensors))


@pytest.mark.parametrize("channels", [8, 48, 128])
def test_other_channels(channels):
    tensors = case(1, 1, 2, channels)
    with pytest.raises(ValueError, match=f"C is {channels} and the kernels are for 16, 32, 64"):
        condition_path(*tensors, 2, "plain")
    with backend("auto"):
        assert condition_path(*tensors, 2, "plain").shape == (1, 2, channels)
