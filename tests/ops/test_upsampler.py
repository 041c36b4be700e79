"""The operator ``upsampler``, and the weights that ``CollapsedUpsampler`` makes for it, against the layers."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

import dan_fast
from dan_fast.fast_model.cells import to_cells
from dan_fast.fast_model.collapsed_upsampler import CollapsedUpsampler
from dan_fast.ops import upsampler
from dan_fast.ops.upsampler import SIDE, upsampler_ref


def layers(scale, channels=8):
    torch.manual_seed(scale)
    config = dan_fast.DANConfig(groups=1, blocks=1, scale=scale, channels=channels)
    return dan_fast.DAN(config).double().Restorer.upscale


@pytest.mark.parametrize("size", [(3, 3), (4, 3), (3, 9), (5, 5), (7, 12)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_learns_as_the_layers_do(scale, size):
    upscale, x = layers(scale), torch.randn(2, 8, *size, dtype=torch.float64, requires_grad=True)
    found = CollapsedUpsampler(upscale, 8, scale, differentiable=True)(x)
    expected = to_cells(upscale(x), scale)
    torch.testing.assert_close(found, expected, check_stride=False)
    weight = torch.randn_like(expected)
    learn = [x, *upscale.parameters()]
    torch.testing.assert_close(torch.autograd.grad((found * weight).sum(), learn),
                               torch.autograd.grad((expected * weight).sum(), learn))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("learns", [False, True])
def test_its_filters_take_one_pass_over_the_layers(scale, learns):
    """``is_grads_batched`` made one pass for each value of a cell, and nine filters one each: 1,300 convolutions."""
    upscale = layers(scale)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        made = CollapsedUpsampler(upscale, 8, scale, differentiable=learns)
    calls = Counter(event.name for event in profiler.events())
    convolutions = sum(isinstance(layer, torch.nn.Conv2d) for layer in upscale)
    assert calls["aten::convolution_backward"] == convolutions
    assert calls["aten::convolution"] <= 2 * convolutions  # a gradient of convolutions may be convolutions
    assert made._weight.shape == (3 * scale**2, 8, SIDE, SIDE)


def test_filters_of_another_type_come_from_exact_weights():
    upscale = layers(4).float()
    made = CollapsedUpsampler(upscale, 8, 4, dtype=torch.bfloat16)
    exact = CollapsedUpsampler(layers(4).float().double(), 8, 4)
    small = torch.randn(1, 8, 2, 2).bfloat16()  # which takes the layers
    assert made(small).dtype == torch.bfloat16
    assert torch.equal(made._weight, exact._weight.bfloat16()) and torch.equal(made._bias, exact._bias.bfloat16())


def test_in_pytorch():
    arguments = torch.randn(1, 4, 5, 6), torch.randn(12, 4, SIDE, SIDE), torch.randn(3, 3, 12)
    torch.library.opcheck(torch.ops.dan_fast.upsampler.default, arguments)
    with torch.inference_mode():
        found = upsampler(arguments[0].transpose(2, 3), *arguments[1:])
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, upsampler_ref(arguments[0].transpose(2, 3), *arguments[1:]), check_stride=False)


@pytest.mark.parametrize("change, says", [
    (lambda x, w, b: (x[:, :, :2], w, b), "x is 2x6, expected at least 3 pixels per side"),
    (lambda x, w, b: (x, w[..., 1:], b), r"weight has shape \(12, 4, 11, 10\), expected \(12, 4, 11, 11\)"),
    (lambda x, w, b: (x, w, b[1:]), r"bias has shape \(2, 3, 12\), expected \(3, 3, 12\)"),
    (lambda x, w, b: (x.requires_grad_(), w, b), "upsampler has no gradient"),
])
def test_wrong_arguments_are_named(change, says):
    with pytest.raises(ValueError, match=says):
        upsampler(*change(torch.randn(1, 4, 5, 6), torch.randn(12, 4, SIDE, SIDE), torch.randn(3, 3, 12)))
