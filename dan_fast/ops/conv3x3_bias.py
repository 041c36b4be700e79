"""A 3x3 convolution alone, with any numbers of channels: what a network has between its bodies, for inference.

On the CPU the compiled extension computes it, with weights of ``packing``; on a GPU the kernel of ``conv3x3`` where it
keeps the number of channels, else that of ``convolution``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import check_blocks
from .backend import choose
from .conv3x3 import triton_refusal
from .convolution import channels_refusal
from .packing import PANEL, cpp_refusal, pack_convolutions, packed, pixels

NAME = "dan_fast::conv3x3_bias"
HAS = ("torch", "cpp", "triton")


def conv3x3_bias_ref(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What the operator computes, in plain PyTorch; same arguments as ``conv3x3_bias``. Differentiable."""
    return F.conv2d(x, weight, bias.to(x.dtype), padding=1)


@torch.library.custom_op(NAME, mutates_args=())
def _op(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    out = len(weight)
    refusal = cpp_refusal(x.shape[1], (x, weight, bias))
    if out % PANEL and not refusal:
        refusal = f"there are {out} output channels and the extension takes multiples of {PANEL}"
    square = out == x.shape[1] and not triton_refusal(out)
    chosen = choose("conv3x3_bias", HAS, x, weight, bias, kernel="conv3x3" if square else "convolution",
                    triton_refuses="" if square else channels_refusal(x.shape[1], out), cpp_refuses=refusal)
    if chosen == "triton":
        from dan_fast_kernels import conv3x3, convolution

        return conv3x3.bias_lrelu(x, weight, bias, 1.0) if square else convolution.convolution(x, weight, bias)
    if chosen == "cpp":
        weights = packed(pack_convolutions, [weight], [bias])
        return torch.ops.dan_fast.conv3x3_bias_cpp(pixels(x), weights, out).permute(0, 3, 1, 2)
    with torch.autocast(x.device.type, enabled=False):
        return conv3x3_bias_ref(x, weight, bias).contiguous(memory_format=torch.channels_last)


@_op.register_fake
def _fake(x, weight, bias):
    batch, _, height, width = x.shape
    return x.new_empty(batch, height, width, weight.shape[0]).permute(0, 3, 1, 2)


def conv3x3_bias(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 3x3 convolution with zero padding and bias. For inference. Precision on a GPU: as ``conv3x3_bias_lrelu``.

    The extension takes float32 with C = 16, 32, 48, 64 or 80 and O a multiple of 16; its rounding, its packed weights
    and what it makes of values that are not finite: as ``dpcb_stack``.

    Args:
        x: (B, C, H, W) floating point, B, H, W at least 1; copied if it is not channels_last.
        weight: (O, C, 3, 3), dtype and device of ``x``.
        bias: (O,) floating point, on the device of ``x``.

    Returns:
        (B, O, H, W), channels_last, dtype and device of ``x``.

    Raises:
        ValueError: an argument does not fit, or a gradient would be needed; the message says what to do.
    """
    check_blocks("conv3x3_bias", {"x": (x, ("B", "C", "H", "W"))},
                 {"weight": ([weight], ("O", "C", 3, 3)), "bias": ([bias], ("O",))}, "a convolution of 3x3",
                 any_dtype=("bias",))
    return _op(x, weight, bias)
