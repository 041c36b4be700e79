"""A group of dual-path blocks whose condition is an image: the body of v2's Estimator, for inference.

On the CPU the compiled extension computes both paths of a block in one go, with weights of ``packing``. On a GPU a
block is two launches: the first convolutions of both paths, then the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import check_blocks, check_group_residual
from .backend import choose
from .conv3x3 import triton_refusal
from .dpcb import SLOPE
from .packing import cpp_refusal, pack_convolutions, packed, pixels

NAME = "dan_fast::dpcg"
HAS = ("torch", "cpp", "triton")


class DPCGWeights(NamedTuple):
    """The convolutions of N blocks in order: those of the image's path and those of the condition's.

    Attributes:
        weight1, bias1, weight2, bias2: of each block's first and second convolution of x, (C, C, 3, 3) and (C,).
        z_weight1, z_bias1, z_weight2, z_bias2: the same of z.
        group_residual: ``"doubled"`` or ``"plain"``.
    """

    weight1: list[Tensor]
    bias1: list[Tensor]
    weight2: list[Tensor]
    bias2: list[Tensor]
    z_weight1: list[Tensor]
    z_bias1: list[Tensor]
    z_weight2: list[Tensor]
    z_bias2: list[Tensor]
    group_residual: str


def dpcg_ref(x: Tensor, z: Tensor, weights: DPCGWeights) -> Tensor:
    """What the operator computes, in plain PyTorch; same arguments as ``dpcg``. Differentiable."""
    return _forward_ref(x, z, *weights[:8], weights.group_residual == "doubled")


def _forward_ref(x: Tensor, z: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor], weight2: Sequence[Tensor],
                 bias2: Sequence[Tensor], z_weight1: Sequence[Tensor], z_bias1: Sequence[Tensor],
                 z_weight2: Sequence[Tensor], z_bias2: Sequence[Tensor], doubled: bool) -> Tensor:
    def two(image: Tensor, first: Tensor, bias: Tensor, second: Tensor, last: Tensor) -> Tensor:
        t = F.leaky_relu(F.conv2d(image, first, bias.to(image.dtype), padding=1), SLOPE)
        return F.conv2d(t, second, last.to(image.dtype), padding=1)

    entry = x
    for n in range(len(weight1)):
        f2 = two(z, z_weight1[n], z_bias1[n], z_weight2[n], z_bias2[n])
        x = x + two(x, weight1[n], bias1[n], weight2[n], bias2[n]) * f2
        z = z + f2
    return 2 * x if doubled else entry + x


def _forward_triton(x: Tensor, z: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor], weight2: Sequence[Tensor],
                    bias2: Sequence[Tensor], z_weight1: Sequence[Tensor], z_bias1: Sequence[Tensor],
                    z_weight2: Sequence[Tensor], z_bias2: Sequence[Tensor], doubled: bool) -> Tensor:
    from dan_fast_kernels import dpcg as kernels

    entry = x = x.contiguous(memory_format=torch.channels_last)
    after: Tensor | None = z
    for n in range(len(weight1)):
        assert after is not None
        t, z_t = kernels.first(x, after, weight1[n], bias1[n], z_weight1[n], z_bias1[n], SLOPE)
        last = n == len(weight1) - 1
        x, after = kernels.second(t, z_t, weight2[n], bias2[n], z_weight2[n], z_bias2[n], x, after,
                                  2.0 if last and doubled else 1.0, last)
    return x if doubled else entry + x


@torch.library.custom_op(NAME, mutates_args=())
def _op(x: Tensor, z: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor], weight2: Sequence[Tensor],
        bias2: Sequence[Tensor], z_weight1: Sequence[Tensor], z_bias1: Sequence[Tensor], z_weight2: Sequence[Tensor],
        z_bias2: Sequence[Tensor], doubled: bool) -> Tensor:
    weights = (weight1, bias1, weight2, bias2, z_weight1, z_bias1, z_weight2, z_bias2)
    tensors = (x, z, *(tensor for tensors in weights for tensor in tensors))
    chosen = choose("dpcg", HAS, *tensors, kernel="conv3x3", cpp_refuses=cpp_refusal(x.shape[1], tensors),
                    triton_refuses=triton_refusal(x.shape[1]))
    if chosen == "triton":
        return _forward_triton(x, z, *weights, doubled)
    if chosen == "cpp":
        out = torch.ops.dan_fast.dpcg_cpp(pixels(x), pixels(z), packed(pack_convolutions, *weights), doubled)
        return out.permute(0, 3, 1, 2)
    with torch.autocast(x.device.type, enabled=False):
        out = _forward_ref(x, z, *weights, doubled)
    return out.contiguous(memory_format=torch.channels_last)


@_op.register_fake
def _fake(x, z, weight1, bias1, weight2, bias2, z_weight1, z_bias1, z_weight2, z_bias2, doubled):
    batch, channels, height, width = x.shape
    return x.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)


def dpcg(x: Tensor, z: Tensor, weights: DPCGWeights) -> Tensor:
    """Dual-path blocks with a condition that is an image (v2: arXiv 2105.06878, section 3.4, fig. 4). For inference.

    A block computes ``f2 = V2 * lrelu0.2(V1 * z + c1) + c2``, ``x <- x + f2 (W2 * lrelu0.2(W1 * x + b1) + b2)`` and
    ``z <- z + f2``, * a 3x3 convolution with zero padding; at its end the group doubles x (``"doubled"``) or adds
    what x was at its start (``"plain"``). Only x comes back:
    ``dpcg(estimator.head_LR(lr), estimator.head_HR(sr), dpcg_weights(estimator))`` is the image that
    ``estimator_tail`` takes.

    Precision on a GPU: as ``conv3x3_bias_lrelu``; C = 16, 32 or 64 there. The extension takes float32 with C = 16,
    32, 48, 64 or 80; its rounding, its packed weights and what it makes of values that are not finite: as
    ``dpcb_stack``.

    Args:
        x, z: (B, C, H, W) floating point, B, H, W at least 1; copied if they are not channels_last.
        weights: of N blocks; ``dpcg_weights(estimator)`` makes them. On the device of ``x``,
            weights of its dtype, biases of any.

    Returns:
        (B, C, H, W), channels_last, dtype and device of ``x``.

    Raises:
        ValueError: an argument does not fit, or a gradient would be needed; the message says what to do.
    """
    image, square = ("B", "C", "H", "W"), ("C", "C", 3, 3)
    shapes = (square, ("C",)) * 4
    check_blocks("dpcg", {"x": (x, image), "z": (z, image)},
                 dict(zip(weights._fields, zip(weights[:8], shapes, strict=True), strict=False)),
                 "dpcg_weights(estimator)", any_dtype=("bias1", "bias2", "z_bias1", "z_bias2"))
    check_group_residual(weights.group_residual)
    return _op(x, z, *weights[:8], weights.group_residual == "doubled")
