"""The published upsampler as one convolution to cells, whose outermost pixels have filters of their own.

On a GPU it is one launch, for inference; training uses the reference.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import IMAGE, check_tensors, refuse_gradient
from .backend import choose
from .convolution import channels_refusal
from .layout import channels_last, empty_channels_last

NAME = "upsampler"
HAS = ("torch", "triton")
REACH = 2  # LR pixels that a cell sees on each side of its own
SMALLEST = 1 + REACH  # LR pixels that the outermost cell sees along an axis; no image may be smaller
# The parts of ``weight`` along an axis for the first pixel, for an inner one and for the last one.
TAPS = (slice(0, SMALLEST), slice(SMALLEST, SMALLEST + 2 * REACH + 1), slice(-SMALLEST, None))
SIDE = 2 * SMALLEST + 2 * REACH + 1


def upsampler_ref(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The reference of the operator, in plain PyTorch; same arguments as ``upsampler``. Differentiable.

    Edges are gathered, not sliced: the gradient of a slice would be an image of zeros for each of the eight edges.
    """
    def convolved(part: Tensor, down: int, right: int) -> Tensor:
        padding = int(down == 1), int(right == 1)
        return F.conv2d(part, weight[:, :, TAPS[down], TAPS[right]], bias[down, right], padding=padding)

    rows = x.index_select(2, _ends(x.shape[2], x.device))
    columns = x.index_select(3, _ends(x.shape[3], x.device))
    corners = rows.index_select(3, _ends(x.shape[3], x.device))
    first, last = slice(0, SMALLEST), slice(SMALLEST, None)
    middle = torch.cat((convolved(columns[..., first], 1, 0), convolved(x, 1, 1), convolved(columns[..., last], 1, 2)),
                       3)
    edges = [torch.cat((convolved(corners[:, :, part, first], down, 0), convolved(rows[:, :, part], down, 1),
                        convolved(corners[:, :, part, last], down, 2)), 3) for part, down in ((first, 0), (last, 2))]
    return torch.cat((edges[0], middle, edges[1]), 2)


@cache
def _ends(length: int, device: torch.device) -> Tensor:
    """The numbers of the first and the last ``SMALLEST`` of ``length`` pixels.

    They are cached: a CUDA graph can be captured only where nothing comes from the host, and what it reads must stay.
    """
    with torch.inference_mode(False):
        return torch.tensor([*range(SMALLEST), *range(length - SMALLEST, length)], device=device)


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    refusal = channels_refusal(x.shape[1], weight.shape[0])
    if choose(NAME, HAS, x, weight, bias, triton_refuses=refusal) == "triton":
        from dan_fast_kernels import convolution as kernels

        return kernels.upsampler(x, weight, bias)
    with torch.autocast(x.device.type, enabled=False):
        return channels_last(upsampler_ref(x, weight, bias))


@_op.register_fake
def _fake(x, weight, bias):
    return empty_channels_last(x, weight.shape[0])


def upsampler(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear upsampler that sees two LR pixels far, as one convolution to cells. For inference.

    A pixel inside has 5x5 taps, one at the start or the end of its row 5x3, of its column 3x5, a corner 3x3: at the
    border a layer of the upsampler pads with zeros, where one convolution of the whole would continue. Sums and
    bias are in float32; float32 products: as ``conv3x3_bias_lrelu``. ``CollapsedUpsampler`` makes the weights.
    Triton takes up to 64 channels in and out.

    Args:
        x: (B, C, H, W) floating point, H and W at least 3.
        weight: (O, C, 11, 11), dtype and device of ``x``: along each axis the 3 taps of the first pixel, the 5 of an
            inner one, the 3 of the last one; best in channels_last, which is used where it lies.
        bias: (3, 3, O), dtype and device of ``x``, by row (first, inner, last) and by column (the same).

    Returns:
        (B, O, H, W), channels_last, dtype of ``x``.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    check_tensors({"x": (x, IMAGE), "weight": (weight, ("O", "C", SIDE, SIDE)), "bias": (bias, (3, 3, "O"))},
                  may_be_empty=True, advice="CollapsedUpsampler makes the weights")
    if min(x.shape[2:]) < SMALLEST:
        raise ValueError(f"x is {x.shape[2]}x{x.shape[3]}, expected at least {SMALLEST} pixels per side: the layers "
                         "themselves take smaller images")
    refuse_gradient(NAME, (x, weight, bias))
    return _op(x, weight.to(x.dtype), bias.to(x.dtype))
