"""The operator ``estimator_tail`` on the CPU: it is the end of v2's Estimator; its place in PyTorch.

The Triton kernels: ``interpreted/test_estimator_tail.py`` (numerics), ``test_estimator_tail_compiles.py`` (machine
code).
"""

from __future__ import annotations

import pytest
import torch
from support.networks import tiny_config
from support.operators import OperatorTests

import dan_fast
from dan_fast.fast_model.v2 import tail_weights
from dan_fast.ops import estimator_tail
from dan_fast.ops.estimator_tail import estimator_tail_ref

OP = torch.ops.dan_fast.estimator_tail.default


def case(shape=(2, 4, 3, 5), dtype=torch.float32, side=3, length=2):
    channels, features, taps = shape[1], 6, side * side
    shapes = (shape, (features, channels, 3, 3), (features,), (taps, features), (taps,))
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes] + [
        torch.randn(taps, length, dtype=dtype)]


def loss(*arguments):
    kernel, code = estimator_tail(*arguments)
    return kernel.square().sum() + code.sin().sum()


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (1, 9), (9, 1), (2, 2), (2, 3), (3, 5), (13, 17)], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_is_the_end_of_the_estimator(size, layout):
    model = dan_fast.DAN(tiny_config(kernel_size=11)).double()
    x = torch.randn(2, 16, *size, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    expected_kernel = model.Estimator.tail(x).view(-1, 11, 11)
    expected_code = model.encode(expected_kernel)
    kernel, code = estimator_tail(x, *tail_weights(model.Estimator), model.encoder[0])
    torch.testing.assert_close(kernel, expected_kernel)
    torch.testing.assert_close(code, expected_code)
    learned = [x, *model.Estimator.tail.parameters()]
    a, b = torch.randn_like(kernel), torch.randn_like(code)
    for found, expected in zip(torch.autograd.grad((kernel * a).sum() + (code * b).sum(), learned),
                               torch.autograd.grad((expected_kernel * a).sum() + (expected_code * b).sum(), learned),
                               strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (4, 3)], ids=str)
def test_gradcheck(size):
    *learn, encoder = case((2, 4, *size), torch.float64)
    assert torch.autograd.gradcheck(lambda *tensors: estimator_tail(*tensors, encoder), learn)


@pytest.mark.parametrize("output", range(2))
def test_one_output_alone(output):
    *learn, encoder = case((2, 4, 3, 5), torch.float64)
    found = torch.autograd.grad(estimator_tail(*learn, encoder)[output].square().sum(), learn)
    expected = torch.autograd.grad(estimator_tail_ref(*learn, encoder)[output].square().sum(), learn)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


class TestInPyTorch(OperatorTests):
    op, reference, registered = staticmethod(estimator_tail), staticmethod(estimator_tail_ref), OP
    dynamic = {0: "batch", 2: "height"}, None, None, None, None, None

    def arguments(self, batch=2, height=3, dtype=torch.float32):
        return tuple(case((batch, 4, height, 5), dtype))


def test_16_bit_values_are_computed_in_float32():
    x, *weights = case()
    out = estimator_tail(x.bfloat16(), *weights)
    for a, b in zip(out, estimator_tail_ref(x.bfloat16().float(), *weights), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradient_lies_like_the_image(layout):
    x, *weights = case()
    x = x.detach().to(memory_format=layout).bfloat16().requires_grad_()
    grad, = torch.autograd.grad(loss(x, *weights), x)
    assert grad.dtype == torch.bfloat16 and grad.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("position, value, says", [
    (0, torch.rand(4, 3, 5), r"x has shape \(4, 3, 5\), expected \(B, C, H, W\)"),
    (0, torch.rand(2, 4, 0, 5), "at least one pixel"),
    (0, torch.ones(2, 4, 3, 5).int(), "x is torch.int32"),
    (1, torch.rand(6, 4, 5, 5), r"conv_weight has shape \(6, 4, 5, 5\), expected \(6, 4, 3, 3\)"),
    (3, torch.rand(9, 6, 1, 1), r"out_weight has shape \(9, 6, 1, 1\), expected \(k\*k, 6\)"),
    (3, torch.rand(8, 6), "8 is no square"),
    (5, torch.rand(1, 9, 2), r"encoder has shape \(1, 9, 2\), expected \(9, c\)"),
    (5, torch.rand(25, 2), r"encoder has shape \(25, 2\), expected \(9, 2\)"),
    (4, torch.rand(9, device="meta"), r"out_bias is on meta and x on cpu"),
])
def test_wrong_arguments_are_named(position, value, says):
    arguments = case()
    arguments[position] = value
    with pytest.raises(ValueError, match=says):
        estimator_tail(*arguments)
