"""The Triton kernels of ``estimator_tail`` against the reference in float64, values and gradients."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from support.accuracy import assert_accurate
from support.layouts import any_layout

from dan_fast.errors import DanFastError
from dan_fast.ops import estimator_tail
from dan_fast.ops.estimator_tail import estimator_tail_ref

# B, C, H, W, k, c
SHAPES = [(1, 16, 1, 1, 3, 2), (2, 16, 1, 9, 5, 4), (2, 32, 9, 1, 5, 4), (2, 32, 2, 2, 11, 10), (3, 32, 3, 5, 21, 10),
          (2, 16, 13, 17, 31, 15), (1, 64, 13, 16, 21, 10), (2, 5, 4, 3, 1, 1)]


def case(batch, channels, height, width, side, length, dtype=torch.float32, weight_dtype=torch.float32):
    features, taps = 2 * channels, side * side
    x = torch.randn(batch, channels, height, width).to(memory_format=torch.channels_last)
    # Weights as large as trained ones, so that the kernel is not a single tap.
    weights = [torch.randn(features, channels, 3, 3) / channels**0.5, torch.randn(features),
               torch.randn(taps, features) / features**0.5, torch.randn(taps)]
    tensors = [x.to(dtype), *(weight.to(weight_dtype) for weight in weights)]
    return [tensor.requires_grad_() for tensor in tensors] + [torch.randn(taps, length).to(weight_dtype)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_reference(shape):
    assert_accurate(estimator_tail, estimator_tail_ref, case(*shape))


@pytest.mark.parametrize("dtypes", [
    (torch.float16, torch.float16), (torch.bfloat16, torch.bfloat16), (torch.bfloat16, torch.float32),
], ids=str)
def test_16_bit_values(dtypes):
    assert_accurate(estimator_tail, estimator_tail_ref, case(2, 32, 7, 9, 11, 10, *dtypes))


def test_logits_too_large_for_exp():
    tensors = case(2, 16, 5, 6, 11, 4)
    with torch.no_grad():
        tensors[4] += 300 * torch.rand(121)
    kernel, code = estimator_tail(*tensors)
    exact_kernel, exact_code = estimator_tail_ref(*(tensor.double() for tensor in tensors))
    assert (kernel - exact_kernel).abs().max() <= 1e-4 and (kernel.sum((1, 2)) - 1).abs().max() <= 1e-6
    assert (code - exact_code).abs().max() <= 1e-4


def test_every_configuration():
    from dan_fast_kernels import estimator_tail as kernels

    tensors = [tensor.detach() for tensor in case(2, 32, 13, 16, 21, 10)]
    for config in chain(*kernels.CANDIDATES.values()):
        kernel, code, *_ = kernels.forward(*tensors, config)
        expected_kernel, expected_code = estimator_tail_ref(*(tensor.double() for tensor in tensors))
        assert (kernel - expected_kernel.flatten(1)).abs().max() <= 1e-5
        assert (code - expected_code).abs().max() <= 1e-5


@pytest.mark.parametrize("parts, tile", [(1, 64), (3, 1024), (1024, 2048)])
def test_any_division(parts, tile):
    from dan_fast_kernels import estimator_tail as kernels

    tensors = [tensor.detach() for tensor in case(3, 16, 7, 12, 5, 3)]
    config = {"BLOCK": 128, "num_warps": 4, "PARTS": parts, "TILE": tile, "TAIL_WARPS": 4, "STAGES": 2}
    kernel, code, *_ = kernels.forward(*tensors, config)
    expected_kernel, expected_code = estimator_tail_ref(*tensors)
    assert (kernel - expected_kernel.flatten(1)).abs().max() <= 1e-5
    assert (code - expected_code).abs().max() <= 1e-5


@any_layout
def test_any_strides(of):
    x, conv_weight, *others = (tensor.detach() for tensor in case(2, 16, 6, 7, 5, 3))
    conv_weight = conv_weight.transpose(2, 3)
    others = [other.t().contiguous().t() for other in others]
    for weight in (conv_weight, conv_weight.contiguous(), conv_weight.contiguous(memory_format=torch.channels_last)):
        found, expected = (function(of(x), weight, *others) for function in (estimator_tail, estimator_tail_ref))
        for a, b in zip(found, expected, strict=True):
            assert (a - b).abs().max() <= 1e-5


def test_no_images():
    kernel, code = estimator_tail(*case(0, 16, 3, 3, 5, 2))
    assert kernel.shape == (0, 5, 5) and code.shape == (0, 2)


def test_refuses_what_does_not_fit_into_registers():
    with pytest.raises(DanFastError, match="80 -> 160 and the kernel takes up to 64 -> 128"):
        estimator_tail(*case(1, 80, 3, 3, 5, 2))
