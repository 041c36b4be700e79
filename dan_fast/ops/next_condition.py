"""From the Estimator's last image to the modulation of the next iteration's blocks, for inference.

This is ``estimator_tail`` and ``condition_path``, on a GPU with one launch less than the two need.
"""

from __future__ import annotations

from math import isqrt

import torch
from dan_fast_kernels.without import without
from torch import Tensor

from .arguments import refuse_gradient
from .backend import choose
from .condition_path import check_condition_path, condition_path, condition_path_ref, condition_path_refusal
from .estimator_tail import check_estimator_tail, estimator_tail, estimator_tail_ref, estimator_tail_refusal

NAME = "next_condition"
HAS = ("torch", "triton")


def next_condition_ref(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor,
                       encoder: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor,
                       weight2: Tensor, bias2: Tensor, blocks: int, group_residual: str
                       ) -> tuple[Tensor, Tensor, Tensor]:
    """The reference of the operator, in plain PyTorch; same arguments as ``next_condition``."""
    kernel, code = estimator_tail_ref(x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    return kernel, code, condition_path_ref(code, head_weight, head_bias, weight1, bias1, weight2, bias2, blocks,
                                            group_residual)


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor, encoder: Tensor,
        head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor,
        blocks: int, group_residual: str) -> tuple[Tensor, Tensor, Tensor]:
    tail = (x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    path = (head_weight, head_bias, weight1, bias1, weight2, bias2)
    refusal = estimator_tail_refusal(x.shape[1], conv_weight.shape[0]) or condition_path_refusal(weight1.shape[1])
    if without("condition_path"):
        refusal = "condition_path is left out"
    if choose(NAME, HAS, *tail, *path, part="estimator_tail", triton_refuses=refusal) == "triton":
        from dan_fast_kernels import next_condition as kernels

        kernel, code, modulation = kernels.forward(*tail, *path, blocks, group_residual)
        return kernel.unflatten(1, (isqrt(len(out_weight)), -1)), code, modulation
    # Each operator by the backend that can compute it.
    kernel, code = estimator_tail(*tail)
    return kernel.contiguous(), code, condition_path(code, *path, blocks, group_residual)


@_op.register_fake
def _fake(x, conv_weight, conv_bias, out_weight, out_bias, encoder, head_weight, head_bias, weight1, bias1, weight2,
          bias2, blocks, group_residual):
    tail = estimator_tail(x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    path = (head_weight, head_bias, weight1, bias1, weight2, bias2)
    return *tail, condition_path(tail[1], *path, blocks, group_residual)


def next_condition(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor,
                   encoder: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor,
                   weight2: Tensor, bias2: Tensor, blocks: int, group_residual: str) -> tuple[Tensor, Tensor, Tensor]:
    """``estimator_tail``, then ``condition_path`` of the code that it returns (v2: arXiv 2105.06878). For inference.

    ``next_condition(x, *tail_weights(estimator), model.encoder[0], *condition_weights(restorer))``; all arguments are
    those of the two operators. Computed in float32 whatever the dtypes are; in float64 where one argument has it.

    Returns:
        kernel (B, k, k), code (B, c) and modulation (B, N, C), contiguous, float32 or float64.

    Raises:
        ValueError: an argument does not fit, or a gradient would be needed; the message says what to do.
    """
    check_estimator_tail(x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    path = (head_weight, head_bias, weight1, bias1, weight2, bias2)
    check_condition_path(x.new_empty(len(x), encoder.shape[1]), *path, blocks, group_residual)
    refuse_gradient(NAME, (x, conv_weight, conv_bias, out_weight, out_bias, *path),
                    instead="estimator_tail and condition_path")
    return _op(x, conv_weight, conv_bias, out_weight, out_bias, encoder, *path, blocks, group_residual)
