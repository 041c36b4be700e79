"""The operator ``convolution`` beside its kernel: the reference, its place in PyTorch, its messages."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dan_fast.ops import convolution
from dan_fast.ops.convolution import channels_refusal, convolution_ref


def case(size=5, dtype=torch.float64):
    return torch.randn(2, 3, 7, 6, dtype=dtype), torch.randn(8, 3, size, size, dtype=dtype), torch.randn(8, dtype=dtype)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_is_pytorch_s(size):
    x, weight, bias = case(size)
    found = convolution(x.transpose(2, 3), weight, bias)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, F.conv2d(x.transpose(2, 3), weight, bias, padding=size // 2),
                               check_stride=False)


def test_the_image_takes_the_type_of_the_weight():
    x, weight, bias = case()
    found = convolution(x, weight.bfloat16(), bias.float())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, convolution_ref(x.bfloat16(), weight.bfloat16(), bias.bfloat16()))


def test_in_pytorch():
    torch.library.opcheck(torch.ops.dan_fast.convolution.default, case(3, torch.float32))
    x, weight, bias = case(3, torch.float32)
    with torch.inference_mode():
        torch.testing.assert_close(torch.compile(convolution, fullgraph=True, backend="aot_eager")(x, weight, bias),
                                   convolution(x, weight, bias))


def test_what_the_kernel_takes():
    assert not channels_refusal(48, 64) and "3 -> 65" in channels_refusal(3, 65)


@pytest.mark.parametrize("change, says", [
    (lambda x, w, b: (x, w[..., :4, :4], b), "expected an odd size"),
    (lambda x, w, b: (x, w[:, :2], b), r"weight has shape \(8, 2, 5, 5\), expected \(8, 3, 5, 5\)"),
    (lambda x, w, b: (x, w, b[1:]), r"bias has shape \(7,\), expected \(8,\)"),
    (lambda x, w, b: (x, w.requires_grad_(), b), "has no gradient"),
])
def test_wrong_arguments_are_named(change, says):
    with pytest.raises(ValueError, match=says):
        convolution(*change(*case()))
