"""The operator ``modulate`` on the CPU: the reference is the block's own arithmetic; its place in PyTorch.

The Triton kernels: ``interpreted/test_modulate.py`` (numerics), ``test_modulate_compiles.py`` (machine code).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support.accuracy import assert_accurate
from support.operators import OperatorTests
from support.stacks import each_number_of_threads

from dan_fast.errors import DanFastError
from dan_fast.model.blocks import DPCB
from dan_fast.ops import backend, modulate
from dan_fast.ops.modulate import modulate_backward, modulate_ref

OP = torch.ops.dan_fast.modulate.default


def case(shape=(2, 8, 3, 5), dtype=torch.float32):
    return (torch.randn(shape, dtype=dtype).to(memory_format=torch.channels_last), torch.randn(shape, dtype=dtype),
            torch.randn(shape[:2], dtype=dtype), torch.randn(shape[1], dtype=dtype))


def learning(arguments):
    return [argument.requires_grad_() for argument in arguments]


def test_is_what_the_block_does():
    block = DPCB(16, 1).double()
    x, z = torch.randn(2, 16, 5, 7, dtype=torch.float64), torch.randn(2, 16, 1, 1, dtype=torch.float64)
    expected, _ = block(x, z)
    last = block.body1[2]
    f1 = F.conv2d(block.body1[:2](x), last.weight, padding=1)
    f2 = block.body2(z).flatten(1)
    torch.testing.assert_close(modulate(x, f1, f2, last.bias), expected)
    torch.testing.assert_close(modulate(x, block.body1(x), f2), expected)


@pytest.mark.parametrize("with_bias", [True, False])
def test_gradcheck(with_bias):
    arguments = learning(case(dtype=torch.float64))[:4 if with_bias else 3]
    assert torch.autograd.gradcheck(modulate, arguments)


class TestInPyTorch(OperatorTests):
    op, reference, registered = staticmethod(modulate), staticmethod(modulate_ref), OP
    dynamic = {0: "batch", 2: "height"}, {0: "batch", 2: "height"}, {0: "batch"}, None

    def arguments(self, batch=2, height=3, dtype=torch.float32):
        return tuple(learning(case((batch, 8, height, 5), dtype)))


@pytest.mark.parametrize("shape", [(1, 16, 1, 1), (2, 1, 4, 4)], ids=str)
def test_opcheck_without_a_bias(shape):
    x, f1, f2, _ = learning(case(shape))
    torch.library.opcheck(OP, (x, f1, f2, None))


@pytest.mark.parametrize("dtype, f1_dtype", [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.bfloat16),
                                             (torch.float32, torch.float16)])
def test_16_bit_values_are_computed_in_float32(dtype, f1_dtype):
    x, f1, f2, bias = case()
    x, f1 = x.to(dtype), f1.to(f1_dtype)
    out = modulate(x, f1, f2, bias)
    assert out.dtype == dtype
    assert torch.equal(out, modulate_ref(x.float(), f1.float(), f2, bias).to(dtype))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_result_lies_like_x(layout):
    x, f1, f2, bias = learning(case())
    x = x.detach().to(memory_format=layout).requires_grad_()
    out = modulate(x, f1, f2, bias)
    assert out.is_contiguous(memory_format=layout)
    grad_x, grad_f1 = torch.autograd.grad(out.sum(), (x, f1))
    assert grad_x.shape == grad_f1.shape and grad_f1.stride() == f1.stride()


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 7, 11), (3, 32, 9, 40), (1, 64, 50, 61), (0, 4, 3, 3)], ids=str)
def test_the_compiled_code_is_accurate(native, shape, with_bias):
    """Also sums of many pixels, which are added in parts."""
    arguments = learning(case(shape))[:4 if with_bias else 3]
    with backend("cpp"):
        assert_accurate(modulate, modulate_ref, arguments)


def test_the_compiled_code_on_any_layout_and_number_of_threads(native):
    x, f1, f2, bias = case((3, 20, 31, 17))

    def gradients(x, f1, f2, bias):
        with backend("cpp"):
            found = modulate(x, f1, f2, bias), *modulate_backward(x, f1, f2, bias)
            return torch.cat([part.flatten() for part in found])

    first, *others = each_number_of_threads(lambda: gradients(x, f1, f2, bias))
    others.append(gradients(x.mT.contiguous().mT, f1.contiguous(memory_format=torch.channels_last),
                            f2.mT.contiguous().mT, torch.stack((bias, bias), 1)[:, 0]))
    assert all(torch.equal(first, other) for other in others)


def test_the_compiled_code_refuses_other_dtypes(native):
    with backend("cpp"), pytest.raises(DanFastError, match="float64 and the extension computes in float32"):
        modulate(*case(dtype=torch.float64))


@pytest.mark.parametrize("position, value, says", [
    (0, torch.rand(8, 3, 5), r"x\[None\]"),
    (0, torch.ones(2, 8, 3, 5).int(), "x is torch.int32"),
    (1, torch.rand(2, 8, 3, 4), r"f1 has shape \(2, 8, 3, 4\)"),
    (2, torch.rand(2, 8, 1, 1), r"modulation has shape \(2, 8, 1, 1\), expected \(2, 8\) with B=2, C=8"),
    (3, torch.rand(4), r"bias has shape \(4,\), expected \(8,\)"),
    (2, torch.rand(2, 8, device="meta"), r"modulation is on meta and x on cpu.*modulation\.to\(x\.device\)"),
])
def test_wrong_arguments_are_named(position, value, says):
    arguments = list(case())
    arguments[position] = value
    with pytest.raises(ValueError, match=says):
        modulate(*arguments)
