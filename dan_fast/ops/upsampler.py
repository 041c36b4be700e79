"""The published upsampler as one convolution to cells, whose outermost pixels have filters of their own.

On a GPU it is one launch, for inference; its reference is what learns.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import check_dimensions, check_tensors
from .backend import choose
from .convolution import channels_refusal

NAME = "dan_fast::upsampler"
HAS = ("torch", "triton")
# LR pixels: how far a cell sees, and so how many the outermost one sees along an axis.
REACH = 2
SMALLEST = 1 + REACH
# The taps in ``weight`` that the first, an inner and the last pixel along an axis have.
TAPS = (slice(0, SMALLEST), slice(SMALLEST, SMALLEST + 2 * REACH + 1), slice(-SMALLEST, None))
SIDE = 2 * SMALLEST + 2 * REACH + 1


def upsampler_ref(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What the operator computes, in plain PyTorch; same arguments as ``upsampler``. Differentiable.

    Edges are gathered: the gradient of a slice would be an image of zeros for each of the eight.
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

    Kept: a CUDA graph can be captured only where nothing comes from the host, and what it reads must stay.
    """
    with torch.inference_mode(False):
        return torch.tensor([*range(SMALLEST), *range(length - SMALLEST, length)], device=device)


@torch.library.custom_op(NAME, mutates_args=())
def _op(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    refusal = channels_refusal(x.shape[1], weight.shape[0])
    if choose("upsampler", HAS, x, weight, bias, triton_refuses=refusal) == "triton":
        from dan_fast_kernels import convolution as kernels

        return kernels.upsampler(x, weight, bias)
    with torch.autocast(x.device.type, enabled=False):
        return upsampler_ref(x, weight, bias).contiguous(memory_format=torch.channels_last)


@_op.register_fake
def _fake(x, weight, bias):
    batch, _, height, width = x.shape
    return x.new_empty(batch, height, width, weight.shape[0]).permute(0, 3, 1, 2)


def upsampler(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A linear upsampler that sees two LR pixels far, as one convolution to cells. For inference.

    A pixel inside has 5x5 taps, one at the start or the end of its row 5x3, of its column 3x5, a corner 3x3: there a
    layer of the upsampler pads with zeros what one convolution would go on with. Sums and bias are in float32; float32
    products: as ``conv3x3_bias_lrelu``. ``CollapsedUpsampler`` makes the weights. Triton takes up to 64 channels in
    and out.

    Args:
        x: (B, C, H, W) floating point, H and W at least 3.
        weight: (O, C, 11, 11), dtype and device of ``x``: along each axis the 3 taps of the first pixel, the 5 of an
            inner one, the 3 of the last one; best in channels_last, which is used where it lies.
        bias: (3, 3, O), dtype and device of ``x``: of the first, an inner, the last row; of the same columns.

    Returns:
        (B, O, H, W), channels_last, dtype of ``x``.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    check_dimensions("x", x, "(B, C, H, W)")
    channels, outputs = x.shape[1], len(weight)
    check_tensors({"x": (x, tuple(x.shape)), "weight": (weight, (outputs, channels, SIDE, SIDE)),
                   "bias": (bias, (3, 3, outputs))}, f"C={channels} from x, O={outputs} from weight")
    if min(x.shape[2:]) < SMALLEST:
        raise ValueError(f"x is {x.shape[2]}x{x.shape[3]}, expected at least {SMALLEST} pixels a side: the layers "
                         "themselves take smaller images")
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, weight, bias)):
        raise ValueError("upsampler has no gradient and an argument requires one: call it under torch.no_grad() or "
                         "torch.inference_mode(), or take upsampler_ref")
    return _op(x, weight.to(x.dtype), bias.to(x.dtype))
