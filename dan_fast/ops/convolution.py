"""A convolution alone, of any odd size and any numbers of channels: the heads of a network, for inference.

On a GPU one launch reads images of any strides and dtype, convolves them and adds the bias.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import IMAGE, check_tensors, refuse_gradient
from .backend import choose
from .layout import channels_last

NAME = "convolution"
HAS = ("torch", "triton")
MOST_CHANNELS = 64  # of image and of result, for the GPU kernel


def convolution_ref(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The reference of the operator, in plain PyTorch; same arguments as ``convolution``. Differentiable."""
    return F.conv2d(x.to(weight.dtype), weight, bias.to(weight.dtype), padding=weight.shape[2] // 2)


def channels_refusal(channels: int, outputs: int) -> str:
    """Why the GPU kernel does not take these numbers of channels; empty if it does."""
    if max(channels, outputs) <= MOST_CHANNELS:
        return ""
    return f"the convolution is {channels} -> {outputs} and the kernel takes up to {MOST_CHANNELS} channels"


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    refusal = channels_refusal(x.shape[1], weight.shape[0])
    if choose(NAME, HAS, x, weight, bias, triton_refuses=refusal) == "triton":
        from dan_fast_kernels import convolution as kernels

        return kernels.convolution(x, weight, bias)
    with torch.autocast(x.device.type, enabled=False):
        return channels_last(convolution_ref(channels_last(x), weight, bias))


@_op.register_fake
def _fake(x, weight, bias):
    batch, _, height, width = x.shape
    return weight.new_empty(batch, height, width, weight.shape[0]).permute(0, 3, 1, 2)


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``conv2d(x, weight, bias, padding=k // 2)``, for k x k of an odd k. For inference.

    ``x`` is rounded to the dtype of ``weight`` first; sums and bias are in float32. Float32 products: as
    ``conv3x3_bias_lrelu``. Triton takes up to 64 channels in and out.

    Args:
        x: (B, C, H, W) floating point, B, H, W at least 1, of any strides.
        weight: (O, C, k, k), k odd, on the device of ``x``; best in channels_last, which is used where it lies.
        bias: (O,) floating point, on the device of ``x``.

    Returns:
        (B, O, H, W), channels_last, dtype of ``weight``.

    Raises:
        ValueError: an argument does not fit, or a gradient would be needed; the message says what to do.
    """
    sizes = check_tensors({"x": (x, IMAGE), "weight": (weight, ("O", "C", "k", "k")), "bias": (bias, ("O",))})
    if sizes["k"] % 2 == 0:
        raise ValueError(f"weight has shape {tuple(weight.shape)}, expected an odd size, as an even one has no middle: "
                         "pad it with zeros")
    refuse_gradient(NAME, (x, weight, bias))
    return _op(x, weight, bias)
