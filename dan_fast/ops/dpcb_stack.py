"""The image's path through dual-path blocks whose factors are known: the body of v2's Restorer, for inference.

On the CPU the compiled extension computes a block in one go, with weights of ``packing``. On a GPU a block is the two
kernels of ``conv3x3``, and a group that doubles its result needs no pass of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .arguments import check_blocks, check_group_residual
from .backend import choose
from .conv3x3 import triton_refusal
from .dpcb import SLOPE, dpcb_ref
from .packing import cpp_refusal, pack_convolutions, packed, pixels

NAME = "dan_fast::dpcb_stack"
HAS = ("torch", "cpp", "triton")


class DPCBWeights(NamedTuple):
    """The image's convolutions of N blocks in order, and how the blocks are grouped.

    Attributes:
        weight1, bias1, weight2, bias2: of each block's first and second convolution, (C, C, 3, 3) and (C,).
        blocks: of a group; divides N.
        group_residual: ``"doubled"`` or ``"plain"``.
    """

    weight1: list[Tensor]
    bias1: list[Tensor]
    weight2: list[Tensor]
    bias2: list[Tensor]
    blocks: int
    group_residual: str


def dpcb_stack_ref(x: Tensor, weights: DPCBWeights, scales: Tensor) -> Tensor:
    """What the operator computes, in plain PyTorch; same arguments as ``dpcb_stack``. Differentiable."""
    return _forward_ref(x, scales, *weights[:5], weights.group_residual == "doubled")


def _forward_ref(x: Tensor, scales: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor],
                 weight2: Sequence[Tensor], bias2: Sequence[Tensor], blocks: int, doubled: bool) -> Tensor:
    entry = x
    for n in range(len(weight1)):
        x = dpcb_ref(x, weight1[n], bias1[n], weight2[n], bias2[n], scales[:, n])
        if n % blocks == blocks - 1:
            x = entry = 2 * x if doubled else entry + x
    return x


def _forward_triton(x: Tensor, scales: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor],
                    weight2: Sequence[Tensor], bias2: Sequence[Tensor], blocks: int, doubled: bool) -> Tensor:
    from dan_fast_kernels import conv3x3 as kernels

    entry = x = x.contiguous(memory_format=torch.channels_last)
    for n in range(len(weight1)):
        last = n % blocks == blocks - 1
        t = kernels.bias_lrelu(x, weight1[n], bias1[n], SLOPE)
        x, _ = kernels.scale_residual(t, weight2[n], bias2[n], scales[:, n], x, factor=2.0 if last and doubled else 1.0)
        if last and not doubled:
            x = entry = entry + x
    return x


@torch.library.custom_op(NAME, mutates_args=())
def _op(x: Tensor, scales: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor], weight2: Sequence[Tensor],
        bias2: Sequence[Tensor], blocks: int, doubled: bool) -> Tensor:
    tensors = (x, scales, *weight1, *bias1, *weight2, *bias2)
    chosen = choose("dpcb_stack", HAS, *tensors, kernel="conv3x3", cpp_refuses=cpp_refusal(x.shape[1], tensors),
                    triton_refuses=triton_refusal(x.shape[1]))
    if chosen == "triton":
        return _forward_triton(x, scales, weight1, bias1, weight2, bias2, blocks, doubled)
    if chosen == "cpp":
        weights = packed(pack_convolutions, weight1, bias1, weight2, bias2)
        out = torch.ops.dan_fast.dpcb_stack_cpp(pixels(x), weights, scales.contiguous(), blocks, doubled)
        return out.permute(0, 3, 1, 2)
    with torch.autocast(x.device.type, enabled=False):
        out = _forward_ref(x, scales, weight1, bias1, weight2, bias2, blocks, doubled)
    return out.contiguous(memory_format=torch.channels_last)


@_op.register_fake
def _fake(x, scales, weight1, bias1, weight2, bias2, blocks, doubled):
    batch, channels, height, width = x.shape
    return x.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)


def dpcb_stack(x: Tensor, weights: DPCBWeights, scales: Tensor) -> Tensor:
    """Dual-path blocks in groups, with given factors (v2: arXiv 2105.06878, section 3.3, fig. 4). For inference.

    A block computes ``x <- x + scale * (W2 * lrelu0.2(W1 * x + b1) + b2)``, * a 3x3 convolution with zero padding; at
    its end a group doubles x (``"doubled"``) or adds what x was at its start (``"plain"``).
    ``dpcb_stack(restorer.head1(lr), dpcb_weights(restorer), condition_path(code, *condition_weights(restorer)))``
    is the body of a Restorer.

    Precision on a GPU: as ``conv3x3_bias_lrelu``; C = 16, 32 or 64 there.

    The extension takes float32 with C = 16, 32, 48, 64 or 80 and errs about 1.6 times as much as PyTorch's
    convolutions; the result has the same bits for any number of threads. Where the result is not finite, neither are
    pixels up to 3 further, as convolutions go on in tiles of 4x4. It packs the weights at the first call, 4 times
    their memory, and again when one was replaced or changed: see ``packing.packed``.

    Args:
        x: (B, C, H, W) floating point, B, H, W at least 1; copied if it is not channels_last.
        weights: of N blocks; ``dpcb_weights(restorer)`` makes them. On the device of ``x``,
            weights of its dtype, biases of any.
        scales: (B, N, C) floating point: the factors f2 of every image, block and channel, on the device of ``x``.

    Returns:
        (B, C, H, W), channels_last, dtype and device of ``x``.

    Raises:
        ValueError: an argument does not fit, or a gradient would be needed; the message says what to do.
    """
    _check(x, weights, scales)
    return _op(x, scales, *weights[:5], weights.group_residual == "doubled")


def _check(x: Tensor, weights: DPCBWeights, scales: Tensor) -> None:
    square = ("C", "C", 3, 3)
    sizes = check_blocks("dpcb_stack", {"x": (x, ("B", "C", "H", "W")), "scales": (scales, ("B", "N", "C"))}, {
        "weight1": (weights.weight1, square), "bias1": (weights.bias1, ("C",)),
        "weight2": (weights.weight2, square), "bias2": (weights.bias2, ("C",))},
        "dpcb_weights(restorer)", any_dtype=("scales", "bias1", "bias2"))
    blocks, count = weights.blocks, sizes["N"]
    if type(blocks) is not int or blocks < 1 or count % blocks:
        raise ValueError(f"blocks={blocks!r}: expected a whole number that divides the N={count} blocks")
    check_group_residual(weights.group_residual)
