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

from .arguments import IMAGE, check_group_residual, check_tensors, flattened, refuse_gradient
from .backend import choose
from .conv3x3 import triton_refusal
from .layout import SLOPE, channels_last, empty_channels_last, to_nchw, to_nhwc
from .packing import cpp_refusal, pack_convolutions, packed

NAME = "dpcg"
HAS = ("torch", "cpp", "triton")


class DPCGWeights(NamedTuple):
    """The convolutions of N blocks in order: those of the image's path and those of the condition's.

    Attributes:
        weight1, bias1: (C, C, 3, 3) and (C,), of each block's first convolution of x.
        weight2, bias2: (C, C, 3, 3) and (C,), of each block's second convolution of x.
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
    """The reference of the operator, in plain PyTorch; same arguments as ``dpcg``. Differentiable."""
    return _forward_ref(x, z, *weights)


def _forward_ref(x: Tensor, z: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor], weight2: Sequence[Tensor],
                 bias2: Sequence[Tensor], z_weight1: Sequence[Tensor], z_bias1: Sequence[Tensor],
                 z_weight2: Sequence[Tensor], z_bias2: Sequence[Tensor], group_residual: str) -> Tensor:
    def both(image: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        activated = F.leaky_relu(F.conv2d(image, weight1, bias1.to(image.dtype), padding=1), SLOPE)
        return F.conv2d(activated, weight2, bias2.to(image.dtype), padding=1)

    entry = x
    for n in range(len(weight1)):
        f2 = both(z, z_weight1[n], z_bias1[n], z_weight2[n], z_bias2[n])
        x = x + both(x, weight1[n], bias1[n], weight2[n], bias2[n]) * f2
        z = z + f2
    return 2 * x if group_residual == "doubled" else entry + x


def _forward_triton(x: Tensor, z: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor], weight2: Sequence[Tensor],
                    bias2: Sequence[Tensor], z_weight1: Sequence[Tensor], z_bias1: Sequence[Tensor],
                    z_weight2: Sequence[Tensor], z_bias2: Sequence[Tensor], group_residual: str) -> Tensor:
    from dan_fast_kernels import dpcg as kernels

    doubled = group_residual == "doubled"
    entry = x = channels_last(x)
    z_or_none: Tensor | None = z
    for n in range(len(weight1)):
        assert z_or_none is not None  # it is None after the last block alone
        activated, z_activated = kernels.first(x, z_or_none, weight1[n], bias1[n], z_weight1[n], z_bias1[n], SLOPE)
        last = n == len(weight1) - 1
        x, z_or_none = kernels.second(activated, z_activated, weight2[n], bias2[n], z_weight2[n], z_bias2[n], x,
                                      z_or_none, residual_factor=2.0 if last and doubled else 1.0, last=last)
    return x if doubled else entry + x


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(x: Tensor, z: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor], weight2: Sequence[Tensor],
        bias2: Sequence[Tensor], z_weight1: Sequence[Tensor], z_bias1: Sequence[Tensor], z_weight2: Sequence[Tensor],
        z_bias2: Sequence[Tensor], group_residual: str) -> Tensor:
    weights = (weight1, bias1, weight2, bias2, z_weight1, z_bias1, z_weight2, z_bias2)
    tensors = (x, z, *flattened(weights))
    chosen = choose(NAME, HAS, *tensors, part="conv3x3", cpp_refuses=cpp_refusal(x.shape[1], tensors),
                    triton_refuses=triton_refusal(x.shape[1]))
    if chosen == "triton":
        return _forward_triton(x, z, *weights, group_residual)
    if chosen == "cpp":
        return to_nchw(torch.ops.dan_fast.dpcg_cpp(to_nhwc(x), to_nhwc(z), packed(pack_convolutions, *weights),
                                                   group_residual == "doubled"))
    with torch.autocast(x.device.type, enabled=False):
        return channels_last(_forward_ref(x, z, *weights, group_residual))


@_op.register_fake
def _fake(x, z, weight1, bias1, weight2, bias2, z_weight1, z_bias1, z_weight2, z_bias2, group_residual):
    return empty_channels_last(x)


def dpcg(x: Tensor, z: Tensor, weights: DPCGWeights) -> Tensor:
    """Dual-path blocks with a condition that is an image (v2: arXiv 2105.06878, section 3.4, fig. 4). For inference.

    A block computes ``f2 = V2 * lrelu0.2(V1 * z + c1) + c2``, ``x <- x + f2 (W2 * lrelu0.2(W1 * x + b1) + b2)`` and
    ``z <- z + f2``, where W * is a 3x3 convolution with zero padding; at its end the group doubles x (``"doubled"``)
    or adds the x of its start (``"plain"``). Only x is returned:
    ``dpcg(estimator.head_LR(lr), estimator.head_HR(sr), dpcg_weights(estimator))`` is the image that
    ``estimator_tail`` takes.

    Precision on a GPU: as ``conv3x3_bias_lrelu``; C = 16, 32 or 64 there. The extension takes float32 with C = 16,
    32, 48, 64 or 80; its rounding, its packed weights and its results around values that are not finite: as
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
    lists = {name: (getattr(weights, name), ("C", "C", 3, 3) if "weight" in name else ("C",))
             for name in weights._fields[:8]}
    check_tensors({"x": (x, IMAGE), "z": (z, IMAGE), **lists},
                  same_dtype=("z", "weight1", "weight2", "z_weight1", "z_weight2"),
                  advice="dpcg_weights(estimator) makes weights")
    check_group_residual(weights.group_residual)
    refuse_gradient(NAME, (x, z, *flattened(weights[:8])))
    return _op(x, z, *weights)
