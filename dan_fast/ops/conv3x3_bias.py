"""A 3x3 convolution alone, with any numbers of channels: the layers of a network between its bodies, for inference.

On the CPU the compiled extension computes it, with weights of ``packing``; on a GPU the GPU kernel of ``conv3x3`` where
the number of channels stays, else that of ``convolution``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import IMAGE, check_tensors, refuse_gradient
from .backend import choose
from .conv3x3 import triton_refusal
from .convolution import channels_refusal
from .layout import channels_last, empty_channels_last, to_nchw, to_nhwc
from .packing import PANEL, cpp_refusal, pack_convolutions, packed

NAME = "conv3x3_bias"
HAS = ("torch", "cpp", "triton")


def conv3x3_bias_ref(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The reference of the operator, in plain PyTorch; same arguments as ``conv3x3_bias``. Differentiable."""
    return F.conv2d(x, weight, bias.to(x.dtype), padding=1)


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    outputs = len(weight)
    refusal = cpp_refusal(x.shape[1], (x, weight, bias))
    if outputs % PANEL and not refusal:
        refusal = f"there are {outputs} output channels and the extension takes multiples of {PANEL}"
    square = outputs == x.shape[1] and not triton_refusal(outputs)
    chosen = choose(NAME, HAS, x, weight, bias, part="conv3x3" if square else "convolution",
                    triton_refuses="" if square else channels_refusal(x.shape[1], outputs), cpp_refuses=refusal)
    if chosen == "triton":
        from dan_fast_kernels import conv3x3, convolution

        return conv3x3.bias_lrelu(x, weight, bias, 1.0) if square else convolution.convolution(x, weight, bias)
    if chosen == "cpp":
        weights = packed(pack_convolutions, [weight], [bias])
        return to_nchw(torch.ops.dan_fast.conv3x3_bias_cpp(to_nhwc(x), weights, outputs))
    with torch.autocast(x.device.type, enabled=False):
        return channels_last(conv3x3_bias_ref(x, weight, bias))


@_op.register_fake
def _fake(x, weight, bias):
    return empty_channels_last(x, weight.shape[0])


def conv3x3_bias(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``conv2d(x, weight, bias, padding=1)``, 3x3. For inference. Precision on a GPU: as ``conv3x3_bias_lrelu``.

    The extension takes float32 with C = 16, 32, 48, 64 or 80 and O a multiple of 16; its rounding, its packed weights
    and its results around values that are not finite: as ``dpcb_stack``.

    Args:
        x: (B, C, H, W) floating point, B, H, W at least 1; copied if it is not channels_last.
        weight: (O, C, 3, 3), dtype and device of ``x``.
        bias: (O,) floating point, on the device of ``x``.

    Returns:
        (B, O, H, W), channels_last, dtype and device of ``x``.

    Raises:
        ValueError: an argument does not fit, or a gradient would be needed; the message says what to do.
    """
    check_tensors({"x": (x, IMAGE), "weight": (weight, ("O", "C", 3, 3)), "bias": (bias, ("O",))},
                  same_dtype=("weight",))
    refuse_gradient(NAME, (x, weight, bias))
    return _op(x, weight, bias)
