"""The Triton kernels of ``modulate`` against the reference in float64, values and gradients."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from support.accuracy import assert_accurate
from support.layouts import any_layout

from dan_fast.ops import modulate
from dan_fast.ops.modulate import modulate_ref

SHAPES = [(1, 16, 1, 1), (2, 32, 3, 5), (3, 64, 13, 16), (2, 5, 13, 17), (1, 100, 7, 2)]


def case(shape, x_dtype=torch.float32, f1_dtype=torch.float32, f2_dtype=torch.float32):
    x, f1 = (torch.randn(shape).to(memory_format=torch.channels_last).to(dtype) for dtype in (x_dtype, f1_dtype))
    return x, f1, torch.randn(shape[:2]).to(f2_dtype), torch.randn(shape[1]).to(f1_dtype)


def learning(arguments):
    return [argument.requires_grad_() for argument in arguments]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_matches_reference(shape, with_bias):
    assert_accurate(modulate, modulate_ref, learning(case(shape))[:4 if with_bias else 3])


@pytest.mark.parametrize("dtypes", [
    (torch.float16, torch.float16, torch.float16),
    (torch.bfloat16, torch.bfloat16, torch.bfloat16),
    (torch.bfloat16, torch.bfloat16, torch.float32),
    (torch.float32, torch.bfloat16, torch.float32),
], ids=str)
def test_16_bit_values(dtypes):
    assert_accurate(modulate, modulate_ref, learning(case((2, 32, 7, 9), *dtypes)))


def test_every_configuration():
    from dan_fast_kernels import modulate as kernels

    x, f1, f2, bias = case((2, 64, 13, 16))
    for config in chain(*kernels.FORWARD.values()):
        assert (kernels.forward(x, f1, f2, bias, config) - modulate_ref(x, f1, f2, bias)).abs().max() <= 1e-6


# With the last there are more parts (208) than the reduction adds up at once (128).
@pytest.mark.parametrize("block, programs", [(256, 1), (256, 6), (256, 10), (256, 1024), (16, 1024)])
def test_any_division_of_the_sums(block, programs):
    from dan_fast_kernels import modulate as kernels

    x, f1, f2, bias = case((3, 16, 13, 16))
    config = {"BLOCK": block, "num_warps": 4, "PROGRAMS": programs}
    grad_f1, grad_f2, grad_bias = kernels.backward(x, f1, f2, bias, config)
    products = (x.double() * (f1 + bias[:, None, None]).double()).sum((2, 3))
    assert torch.equal(grad_f1, x * f2[:, :, None, None])
    assert (grad_f2 - products).abs().max() <= 1e-4
    assert (grad_bias - (x.double().sum((2, 3)) * f2).sum(0)).abs().max() <= 1e-4


@any_layout
def test_any_strides(of):
    x, f1, f2, bias = case((2, 16, 8, 8))
    x, other = of(x), of(f1)
    for value in (other, other.contiguous(memory_format=torch.channels_last)):
        out = modulate(x, value, f2.T.contiguous().T, bias)
        assert (out - modulate_ref(x, value, f2, bias)).abs().max() <= 1e-6
        assert out.stride() == torch.empty_like(x).stride()


def test_only_the_gradients_that_are_needed():
    x, f1, f2, bias = case((1, 16, 3, 5))
    grad, = torch.autograd.grad(modulate(x.requires_grad_(), f1, f2, bias).sum(), x)
    assert torch.equal(grad, torch.ones_like(x))
    grad, = torch.autograd.grad(modulate(x.detach(), f1, f2.requires_grad_(), bias).sum(), f2)
    torch.testing.assert_close(grad, (f1 + bias[:, None, None]).sum((2, 3)))


@pytest.mark.parametrize("shape", [(0, 8, 3, 3), (2, 8, 0, 3)], ids=str)
def test_nothing_in_nothing_out(shape):
    arguments = learning(case(shape))
    out = modulate(*arguments)
    assert out.shape == shape and all(not grad.any() for grad in torch.autograd.grad(out.sum(), arguments))
