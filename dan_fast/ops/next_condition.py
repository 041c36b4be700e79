"""From the Estimator's last image to the factors of the next iteration's blocks, for inference.

That is ``estimator_tail`` and ``condition_path``; on a GPU in one launch less than the two take.
"""

from __future__ import annotations

from math import isqrt

import torch
from dan_fast_kernels.without import without
from torch import Tensor

from .backend import choose
from .condition_path import _check as check_path
from .condition_path import _refusal as path_refusal
from .condition_path import condition_path, condition_path_ref
from .estimator_tail import _check as check_tail
from .estimator_tail import _refusal as tail_refusal
from .estimator_tail import estimator_tail, estimator_tail_ref

NAME = "dan_fast::next_condition"
HAS = ("torch", "triton")


def next_condition_ref(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor,
                       encoder: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor,
                       weight2: Tensor, bias2: Tensor, blocks: int, group_residual: str
                       ) -> tuple[Tensor, Tensor, Tensor]:
    """What the operator computes, in plain PyTorch; same arguments as ``next_condition``."""
    kernel, code = estimator_tail_ref(x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    return kernel, code, condition_path_ref(code, head_weight, head_bias, weight1, bias1, weight2, bias2, blocks,
                                            group_residual)


@torch.library.custom_op(NAME, mutates_args=())
def _op(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor, encoder: Tensor,
        head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor,
        blocks: int, group_residual: str) -> tuple[Tensor, Tensor, Tensor]:
    tail = (x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    path = (head_weight, head_bias, weight1, bias1, weight2, bias2)
    refusal = tail_refusal(x.shape[1], conv_weight.shape[0]) or path_refusal(weight1.shape[1])
    if without("condition_path"):
        refusal = "condition_path is left out"
    if choose("next_condition", HAS, *tail, *path, kernel="estimator_tail", triton_refuses=refusal) == "triton":
        from dan_fast_kernels import next_condition as kernels

        kernel, code, scales = kernels.forward(*tail, *path, blocks, group_residual == "doubled")
        return kernel.unflatten(1, (isqrt(len(out_weight)), -1)), code, scales
    # Each by what can compute it.
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
    """``estimator_tail`` and then ``condition_path`` of the code that it finds (v2: arXiv 2105.06878). For inference.

    ``next_condition(x, *tail_weights(estimator), model.encoder[0], *condition_weights(restorer))``; all arguments are
    those of the two operators. Computed in float32 whatever the dtypes are; in float64 where one argument has it.

    Returns:
        kernel (B, k, k), code (B, c) and factors (B, N, C), contiguous, float32 or float64.

    Raises:
        ValueError: an argument does not fit, or a gradient would be needed; the message says what to do.
    """
    check_tail(x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    path = {"head_weight": head_weight, "head_bias": head_bias, "weight1": weight1, "bias1": bias1, "weight2": weight2,
            "bias2": bias2}
    check_path({"code": x.new_empty(len(x), encoder.shape[1]), **path}, blocks, group_residual)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, conv_weight, out_weight, *path.values())):
        raise ValueError("next_condition has no gradient and an argument requires one: call it under torch.no_grad() "
                         "or torch.inference_mode(), or take estimator_tail and condition_path")
    return _op(x, conv_weight, conv_bias, out_weight, out_bias, encoder, *path.values(), blocks, group_residual)
