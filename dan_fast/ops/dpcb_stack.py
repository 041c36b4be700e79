"""The image's path through dual-path blocks whose modulation is known: the body of v2's Restorer, for inference.

On the CPU the compiled extension computes a block in one go, with weights of ``packing``. On a GPU a block is the two
GPU kernels of ``conv3x3``, and a group that doubles its result needs no pass of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .arguments import IMAGE, check_groups, check_tensors, flattened, refuse_gradient
from .backend import choose
from .conv3x3 import triton_refusal
from .dpcb import dpcb_ref
from .layout import SLOPE, channels_last, empty_channels_last, to_nchw, to_nhwc
from .packing import cpp_refusal, pack_convolutions, packed

NAME = "dpcb_stack"
HAS = ("torch", "cpp", "triton")


class DPCBWeights(NamedTuple):
    """The image's convolutions of N blocks in order, and how the blocks are grouped.

    Attributes:
        weight1, bias1: (C, C, 3, 3) and (C,), of each block's first convolution.
        weight2, bias2: (C, C, 3, 3) and (C,), of each block's second convolution.
        blocks: number of blocks in a group; divides N.
        group_residual: ``"doubled"`` or ``"plain"``.
    """

    weight1: list[Tensor]
    bias1: list[Tensor]
    weight2: list[Tensor]
    bias2: list[Tensor]
    blocks: int
    group_residual: str


def dpcb_stack_ref(x: Tensor, weights: DPCBWeights, modulation: Tensor) -> Tensor:
    """The reference of the operator, in plain PyTorch; same arguments as ``dpcb_stack``. Differentiable."""
    return _forward_ref(x, modulation, *weights)


def _forward_ref(x: Tensor, modulation: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor],
                 weight2: Sequence[Tensor], bias2: Sequence[Tensor], blocks: int, group_residual: str) -> Tensor:
    entry = x
    for n in range(len(weight1)):
        x = dpcb_ref(x, weight1[n], bias1[n], weight2[n], bias2[n], modulation[:, n])
        if n % blocks == blocks - 1:
            x = entry = 2 * x if group_residual == "doubled" else entry + x
    return x


def _forward_triton(x: Tensor, modulation: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor],
                    weight2: Sequence[Tensor], bias2: Sequence[Tensor], blocks: int, group_residual: str) -> Tensor:
    from dan_fast_kernels import conv3x3 as kernels

    doubled = group_residual == "doubled"
    entry = x = channels_last(x)
    for n in range(len(weight1)):
        last = n % blocks == blocks - 1
        activated = kernels.bias_lrelu(x, weight1[n], bias1[n], SLOPE)
        x, _ = kernels.scale_residual(activated, weight2[n], bias2[n], modulation[:, n], x,
                                      residual_factor=2.0 if last and doubled else 1.0)
        if last and not doubled:
            x = entry = entry + x
    return x


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(x: Tensor, modulation: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor], weight2: Sequence[Tensor],
        bias2: Sequence[Tensor], blocks: int, group_residual: str) -> Tensor:
    tensors = (x, modulation, *weight1, *bias1, *weight2, *bias2)
    chosen = choose(NAME, HAS, *tensors, part="conv3x3", cpp_refuses=cpp_refusal(x.shape[1], tensors),
                    triton_refuses=triton_refusal(x.shape[1]))
    if chosen == "triton":
        return _forward_triton(x, modulation, weight1, bias1, weight2, bias2, blocks, group_residual)
    if chosen == "cpp":
        weights = packed(pack_convolutions, weight1, bias1, weight2, bias2)
        return to_nchw(torch.ops.dan_fast.dpcb_stack_cpp(to_nhwc(x), weights, modulation.contiguous(), blocks,
                                                         group_residual == "doubled"))
    with torch.autocast(x.device.type, enabled=False):
        return channels_last(_forward_ref(x, modulation, weight1, bias1, weight2, bias2, blocks, group_residual))


@_op.register_fake
def _fake(x, modulation, weight1, bias1, weight2, bias2, blocks, group_residual):
    return empty_channels_last(x)


def dpcb_stack(x: Tensor, weights: DPCBWeights, modulation: Tensor) -> Tensor:
    """Dual-path blocks in groups, with a given modulation (v2: arXiv 2105.06878, section 3.3, fig. 4). For inference.

    A block computes ``x <- x + f2 * (W2 * lrelu0.2(W1 * x + b1) + b2)``, where W * is a 3x3 convolution with zero
    padding; at its end a group doubles x (``"doubled"``) or adds the x of its start (``"plain"``).
    ``dpcb_stack(restorer.head1(lr), dpcb_weights(restorer), condition_path(code, *condition_weights(restorer)))``
    is the body of a Restorer.

    Precision on a GPU: as ``conv3x3_bias_lrelu``; C = 16, 32 or 64 there.

    The extension takes float32 with C = 16, 32, 48, 64 or 80 and errs about 1.6 times as much as PyTorch's
    convolutions; the result has the same bits for any number of threads. Around a value that is not finite, results up
    to 3 pixels further are not finite either, as convolutions are computed in tiles of 4x4. It packs the weights at
    the first call, 4 times their memory, and again when one was replaced or changed: see ``packing.packed``.

    Args:
        x: (B, C, H, W) floating point, B, H, W at least 1; copied if it is not channels_last.
        weights: of N blocks; ``dpcb_weights(restorer)`` makes them. On the device of ``x``,
            weights of its dtype, biases of any.
        modulation: (B, N, C) floating point: f2 of every image, block and channel, on the device of ``x``.

    Returns:
        (B, C, H, W), channels_last, dtype and device of ``x``.

    Raises:
        ValueError: an argument does not fit, or a gradient would be needed; the message says what to do.
    """
    sizes = check_tensors({
        "x": (x, IMAGE), "weight1": (weights.weight1, ("C", "C", 3, 3)), "bias1": (weights.bias1, ("C",)),
        "weight2": (weights.weight2, ("C", "C", 3, 3)), "bias2": (weights.bias2, ("C",)),
        "modulation": (modulation, ("B", "N", "C"))}, same_dtype=("weight1", "weight2"),
        advice="dpcb_weights(restorer) makes weights, condition_path the modulation")
    check_groups(weights.blocks, sizes["N"], weights.group_residual)
    refuse_gradient(NAME, (x, modulation, *flattened(weights[:4])))
    return _op(x, modulation, *weights)
