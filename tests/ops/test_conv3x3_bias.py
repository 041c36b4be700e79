"""The operator ``conv3x3_bias``: the compiled code against the reference in float64, and its place in PyTorch."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from support.stacks import StackTests, draw
from torch import Tensor

from dan_fast.errors import DanFastError
from dan_fast.ops import backend, conv3x3_bias
from dan_fast.ops.conv3x3_bias import conv3x3_bias_ref


class Convolution(NamedTuple):
    weight1: list[Tensor]
    bias: Tensor


def case(batch, channels, height, width, out=48):
    return torch.randn(batch, channels, height, width), Convolution([draw(out, channels, 3, 3)], draw(out))


class TestConv3x3Bias(StackTests):
    op = staticmethod(lambda x, weights: conv3x3_bias(x, weights[0][0], weights[1]))
    reference = staticmethod(lambda x, weights: conv3x3_bias_ref(x, weights[0][0], weights[1]))
    registered = torch.ops.dan_fast.conv3x3_bias.default
    variants = {"out": 48}, {"out": 16}, {"out": 64}
    case = staticmethod(case)

    def module(self):
        return torch.nn.Sequential(torch.nn.Conv2d(16, 32, 3, padding=1))

    def arguments(self, module, x):
        return x, Convolution([module[0].weight], module[0].bias)

    def flat(self, arguments):
        x, (weight, bias) = arguments
        return x, weight[0], bias


@pytest.mark.parametrize("channels", [48, 80])
def test_other_numbers_of_channels(native, channels):
    TestConv3x3Bias().assert_errs_as_winograd_does(case(2, channels, 11, 14))


def test_output_channels_that_are_no_multiple_of_16(native):
    x, (weight, bias) = case(1, 16, 5, 5, out=12)
    with backend("cpp"), pytest.raises(DanFastError, match="12 output channels and the extension takes multiples of"):
        conv3x3_bias(x, weight[0], bias)
    torch.testing.assert_close(conv3x3_bias(x, weight[0], bias), conv3x3_bias_ref(x, weight[0], bias))


@pytest.mark.parametrize("weight, bias, says", [
    (torch.rand(48, 17, 3, 3), torch.rand(48), r"weight has shape \(48, 17, 3, 3\), expected \(48, 16, 3, 3\)"),
    (torch.rand(48, 16, 5, 5), torch.rand(48), r"weight has shape"),
    (torch.rand(48, 16, 3, 3), torch.rand(47), r"bias has shape \(47,\), expected \(48,\)"),
])
def test_wrong_arguments_are_named(weight, bias, says):
    with pytest.raises(ValueError, match=says):
        conv3x3_bias(torch.rand(2, 16, 5, 5), weight, bias)
