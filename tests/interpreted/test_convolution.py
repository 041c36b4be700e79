"""The Triton kernel of ``convolution`` and ``upsampler`` against the references in float64."""

from __future__ import annotations

import pytest
import torch
from support.rounding import RoundedTo

from dan_fast.ops import conv3x3_bias, convolution, upsampler
from dan_fast.ops.conv3x3_bias import conv3x3_bias_ref
from dan_fast.ops.convolution import convolution_ref
from dan_fast.ops.upsampler import upsampler_ref


def convolutions(batch, channels, out, size, height, width):
    weight = torch.randn(out, channels, size, size) / (channels * size**2) ** 0.5
    return torch.randn(batch, channels, height, width), weight, torch.randn(out)


def upsamplers(batch, channels, out, height, width):
    weight = torch.randn(out, channels, 11, 11) / (channels * 25) ** 0.5
    return torch.randn(batch, channels, height, width), weight, torch.randn(3, 3, out)


def assert_right(op, reference, arguments, dtype=torch.float32):
    """The error is at most that of rounding each product and sum to ``dtype``, plus one rounding of the result."""
    arguments = [argument.to(dtype) for argument in arguments]
    exact = reference(*(argument.double() for argument in arguments))
    with torch.inference_mode():
        found = op(*arguments)
    assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)
    with RoundedTo(dtype):
        rounded = reference(*(argument.double() for argument in arguments))
    allowed = (rounded - exact).norm() + (torch.finfo(dtype).eps / 2 + 1e-6) * exact.norm()
    assert found.shape == exact.shape and (found - exact).norm() <= allowed


@pytest.mark.parametrize("batch, channels, out, size, height, width", [
    (2, 3, 64, 3, 13, 9), (1, 1, 16, 5, 1, 1), (1, 48, 32, 5, 10, 16), (1, 51, 64, 3, 9, 17), (3, 12, 7, 1, 4, 5),
    (1, 27, 64, 7, 9, 3)])
def test_convolution(batch, channels, out, size, height, width):
    assert_right(convolution, convolution_ref, convolutions(batch, channels, out, size, height, width))


@pytest.mark.parametrize("batch, channels, out, height, width", [
    (1, 16, 48, 3, 3), (2, 16, 27, 4, 9), (1, 64, 12, 13, 3), (1, 32, 48, 11, 16), (3, 8, 3, 5, 5)])
def test_upsampler(batch, channels, out, height, width):
    """Images from those that are all border to those of several tiles and runs."""
    assert_right(upsampler, upsampler_ref, upsamplers(batch, channels, out, height, width))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits(dtype):
    assert_right(convolution, convolution_ref, convolutions(2, 3, 32, 3, 5, 6), dtype)
    assert_right(upsampler, upsampler_ref, upsamplers(1, 16, 48, 6, 5), dtype)


@pytest.mark.parametrize("channels, out", [(16, 16), (16, 48), (32, 12)])
def test_conv3x3_bias(channels, out):
    """It uses the GPU kernel of ``conv3x3`` where the number of channels stays."""
    assert_right(conv3x3_bias, conv3x3_bias_ref, convolutions(2, channels, out, 3, 5, 7))


@pytest.mark.parametrize("of", [lambda x: x.transpose(2, 3), lambda x: x[:, :, 1:, ::2], lambda x: x[:1].expand_as(x),
                                lambda x: x.to(memory_format=torch.channels_last).double()],
                         ids=["transposed", "sliced", "expanded", "channels_last and another type"])
def test_reads_images_as_they_lie(of):
    x, weight, bias = convolutions(2, 3, 32, 3, 6, 6)
    given = of(x).float() if of(x).dtype == torch.float64 else of(x)
    with torch.inference_mode():
        found = convolution(given, weight.half(), bias)
    exact = convolution_ref(given.half().double(), weight.half().double(), bias.double())
    assert (found - exact).norm() <= (torch.finfo(torch.float16).eps / 2 + 1e-6) * exact.norm()
