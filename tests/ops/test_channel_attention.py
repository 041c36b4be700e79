"""The operator ``channel_attention`` on the CPU: it is the end of v1's block; its place in PyTorch.

The Triton kernels: ``interpreted/test_channel_attention.py`` (numerics), ``test_channel_attention_compiles.py``
(machine code).
"""

from __future__ import annotations

import pytest
import torch
from support.operators import OperatorTests

from dan_fast.fast_model.v1 import attention_weights
from dan_fast.model.blocks import CRB
from dan_fast.ops import channel_attention
from dan_fast.ops.channel_attention import channel_attention_ref

OP = torch.ops.dan_fast.channel_attention.default


def case(shape=(2, 8, 3, 5), dtype=torch.float32, hidden=2):
    channels = shape[1]
    shapes = (shape, (hidden, channels), (hidden,), (channels, hidden), (channels,), shape)
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


def learning(arguments):
    return [argument.requires_grad_() for argument in arguments]


@pytest.mark.parametrize("channels, size", [(16, (1, 1)), (32, (3, 5)), (64, (13, 17))])
def test_is_the_end_of_the_block(channels, size):
    block = CRB(channels, 10).double()
    x, z = (torch.randn(2, width, *size, dtype=torch.float64, requires_grad=True) for width in (channels, 10))
    expected = block(x, z)
    attention = block.body[3]
    y = block.body[:3](torch.cat((x, z), 1))
    found = channel_attention(y, *attention_weights(attention), x)
    torch.testing.assert_close(found, expected)
    learned = [x, z, *block.parameters()]
    weight = torch.randn_like(expected)
    for a, b in zip(torch.autograd.grad((found * weight).sum(), learned),
                    torch.autograd.grad((expected * weight).sum(), learned), strict=True):
        torch.testing.assert_close(a, b)


def test_gradcheck():
    assert torch.autograd.gradcheck(channel_attention, learning(case(dtype=torch.float64)))


class TestInPyTorch(OperatorTests):
    op, reference, registered = staticmethod(channel_attention), staticmethod(channel_attention_ref), OP
    dynamic = {0: "batch", 2: "height"}, None, None, None, None, {0: "batch", 2: "height"}

    def arguments(self, batch=2, height=3, dtype=torch.float32):
        return tuple(learning(case((batch, 8, height, 5), dtype)))


def test_16_bit_values_are_computed_in_float32():
    y, *weights, residual = case()
    y, residual = y.bfloat16(), residual.half()
    out = channel_attention(y, *weights, residual)
    assert out.dtype == torch.float16
    assert torch.equal(out, channel_attention_ref(y.float(), *weights, residual.float()).half())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_result_lies_like_the_residual(layout):
    y, *weights, residual = learning(case())
    residual = residual.detach().to(memory_format=layout)
    out = channel_attention(y, *weights, residual)
    assert out.is_contiguous(memory_format=layout)
    grad_y, = torch.autograd.grad(out.sum(), y)
    assert grad_y.stride() == y.stride()


@pytest.mark.parametrize("position, value, says", [
    (0, torch.rand(8, 3, 5), r"y has shape \(8, 3, 5\), expected \(B, C, H, W\)"),
    (0, torch.ones(2, 8, 3, 5).int(), "y is torch.int32"),
    (1, torch.rand(2, 8, 1, 1), r"weight1 has shape \(2, 8, 1, 1\), expected \(S, 8\)"),
    (1, torch.rand(2, 9), r"weight1 has shape \(2, 9\), expected \(2, 8\)"),
    (3, torch.rand(2, 8), r"weight2 has shape \(2, 8\), expected \(8, 2\) with C=8, S=2"),
    (5, torch.rand(2, 8, 3, 4), r"residual has shape \(2, 8, 3, 4\)"),
    (4, torch.rand(8, device="meta"), r"bias2 is on meta and y on cpu.*bias2\.to\(y\.device\)"),
])
def test_wrong_arguments_are_named(position, value, says):
    arguments = case()
    arguments[position] = value
    with pytest.raises(ValueError, match=says):
        channel_attention(*arguments)
