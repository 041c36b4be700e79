"""A convolution alone, of any odd size and any numbers of channels: the heads of a network, for inference.

On a GPU it reads images of any strides and type, and adds the bias, in one launch.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import check_blocks
from .backend import choose

NAME = "dan_fast::convolution"
HAS = ("torch", "triton")
MOST_CHANNELS = 64  # of image and result, in the kernel


def convolution_ref(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What the operator computes, in plain PyTorch; same arguments as ``convolution``. Differentiable."""
    return F.conv2d(x.to(weight.dtype), weight, bias.to(weight.dtype), padding=weight.shape[2] // 2)


def channels_refusal(channels: int, outputs: int) -> str:
    """Why the kernel does not take these numbers of channels; empty if it does."""
    if max(channels, outputs) <= MOST_CHANNELS:
        return ""
    return f"the convolution is {channels} -> {outputs} and the kernel takes up to {MOST_CHANNELS} channels"


@torch.library.custom_op(NAME, mutates_args=())
def _op(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    refusal = channels_refusal(x.shape[1], weight.shape[0])
    if choose("convolution", HAS, x, weight, bias, triton_refuses=refusal) == "triton":
        from dan_fast_kernels import convolution as kernels

        return kernels.convolution(x, weight, bias)
    with torch.autocast(x.device.type, enabled=False):
        x = x.contiguous(memory_format=torch.channels_last)
        return convolution_ref(x, weight, bias).contiguous(memory_format=torch.channels_last)


@_op.register_fake
def _fake(x, weight, bias):
    batch, _, height, width = x.shape
    return weight.new_empty(batch, height, width, weight.shape[0]).permute(0, 3, 1, 2)


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution of stride 1 with zero padding that keeps the grid, and its bias. For inference.

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
    sizes = check_blocks("convolution", {"x": (x, ("B", "C", "H", "W"))},
                         {"weight": ([weight], ("O", "C", "K", "K")), "bias": ([bias], ("O",))},
                         "a convolution", any_dtype=("weight", "bias"))
    if sizes["K"] % 2 == 0:
        raise ValueError(f"weight has shape {tuple(weight.shape)}, expected an odd size: an even one has no middle")
    return _op(x, weight, bias)
