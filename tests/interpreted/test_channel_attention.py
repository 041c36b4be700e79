"""The Triton kernels of ``channel_attention`` against the reference in float64, values and gradients."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from support.accuracy import assert_accurate, results
from support.layouts import any_layout

from dan_fast.ops import backend, channel_attention
from dan_fast.ops.channel_attention import channel_attention_ref

SHAPES = [(1, 16, 1, 1), (2, 32, 3, 5), (3, 64, 13, 16), (2, 5, 13, 17), (1, 100, 7, 2)]


def case(shape, dtype=torch.float32, weight_dtype=torch.float32, residual_dtype=None, hidden=None):
    channels, hidden = shape[1], hidden or max(1, shape[1] // 16)
    y, residual = (torch.randn(shape).to(memory_format=torch.channels_last) for _ in range(2))
    weights = [torch.randn(hidden, channels), torch.randn(hidden), torch.randn(channels, hidden), torch.randn(channels)]
    return [tensor.requires_grad_() for tensor in (
        y.to(dtype), *(tensor.to(weight_dtype) for tensor in weights), residual.to(residual_dtype or dtype))]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(shape):
    assert_accurate(channel_attention, channel_attention_ref, case(shape))


@pytest.mark.parametrize("dtypes", [
    (torch.float16, torch.float16, torch.float16),
    (torch.bfloat16, torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.float32, torch.float32),
], ids=str)
def test_16_bit_values(dtypes):
    assert_accurate(channel_attention, channel_attention_ref, case((2, 32, 7, 9), *dtypes))


def test_every_configuration():
    from dan_fast_kernels import channel_attention as kernels

    tensors = [tensor.detach() for tensor in case((2, 64, 13, 16))]
    y, *weights, residual = tensors
    for config in chain(*kernels.CANDIDATES.values()):
        out, means = kernels.forward(*tensors, config)
        assert (out - channel_attention_ref(*tensors)).abs().max() <= 2e-6
        grad_y, *_ = kernels.backward(residual, y, *weights, means, config)
        expected = results(channel_attention_ref, [y.requires_grad_(), *weights, residual], [residual])
        assert (grad_y - expected["gradient 0"]).abs().max() <= 1e-5


# With the last there are more parts (33) than the second launch adds up at once (4).
@pytest.mark.parametrize("block, parts, programs", [(256, 1, 1), (256, 3, 100), (256, 100, 7), (256, 8, 1024),
                                                    (64, 100, 1024)])
def test_any_division_of_the_pixels(block, parts, programs):
    from dan_fast_kernels import channel_attention as kernels

    tensors = [tensor.detach() for tensor in case((3, 16, 13, 16))]
    config = {"BLOCK": block, "num_warps": 4, "PARTS": parts, "PROGRAMS": programs}
    out, means = kernels.forward(*tensors, config)
    assert (out - channel_attention_ref(*tensors)).abs().max() <= 2e-6
    assert (means - tensors[0].mean((2, 3))).abs().max() <= 1e-6
    y, *weights, residual = tensors
    first = kernels.backward(residual, y, *weights, means, config)
    whole = kernels.backward(residual, y, *weights, means)
    for a, b in zip(first, whole, strict=True):
        assert (a - b).abs().max() <= 1e-4


@any_layout
def test_any_strides(of):
    y, *weights, residual = (tensor.detach() for tensor in case((2, 32, 8, 8)))
    weights = [weight.t().contiguous().t() for weight in weights]
    for value in (of(y), of(y).contiguous(memory_format=torch.channels_last)):
        out = channel_attention(value, *weights, of(residual))
        assert (out - channel_attention_ref(value, *weights, of(residual))).abs().max() <= 2e-6
        assert out.stride() == torch.empty_like(of(residual)).stride()


@pytest.mark.parametrize("shape", [(0, 16, 3, 3), (2, 16, 0, 3)], ids=str)
def test_nothing_in_nothing_out(shape):
    found = results(channel_attention, case(shape), [torch.zeros(shape)])
    assert found["output 0"].shape == shape
    assert all(not value.any() for value in found.values())


def test_gradients_come_from_where_the_result_did(monkeypatch):
    from dan_fast_kernels import channel_attention as kernels

    ran = []
    original = kernels.backward
    monkeypatch.setattr(kernels, "backward", lambda *arguments: ran.append(1) or original(*arguments))
    tensors = case((1, 16, 3, 5))
    out = channel_attention(*tensors)
    with backend("torch"):
        torch.autograd.grad(out.sum(), tensors)
    assert ran
