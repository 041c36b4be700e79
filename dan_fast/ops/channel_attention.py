"""The channel attention that ends a block of v1, with the block's residual: ``residual + y * gate(mean(y))``."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import IMAGE, check_tensors
from .backend import choose, recalled, remember
from .layout import SLOPE, laid_out_like, wide_dtype

NAME = "channel_attention"
HAS = ("torch", "triton")


class AttentionWeights(NamedTuple):
    """The arguments of ``channel_attention`` between y and the residual: two layers, C -> S -> C, both (out, in)."""

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor


def channel_attention_ref(y: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, residual: Tensor
                          ) -> Tensor:
    """The reference of the operator, in plain PyTorch; same arguments as ``channel_attention``."""
    return _forward_ref(y, weight1, bias1, weight2, bias2, residual)[0]


def _forward_ref(y: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, residual: Tensor
                 ) -> tuple[Tensor, Tensor]:
    """The result and the means of y, (B, C)."""
    wide = wide_dtype(y, weight1, bias1, weight2, bias2, residual)
    y_wide = y.to(wide)
    means = y_wide.mean((2, 3)) if y.numel() else y_wide.sum((2, 3))
    _, gate = _gate_ref(means, weight1, bias1, weight2, bias2)
    return (residual.to(wide) + y_wide * gate[:, :, None, None]).to(residual.dtype), means


def _gate_ref(means: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> tuple[Tensor, Tensor]:
    """The hidden layer (B, S) and the gate (B, C): ``sigmoid(W2 lrelu(W1 mean(y) + b1) + b2)``."""
    wide = means.dtype
    hidden = F.leaky_relu(F.linear(means, weight1.to(wide), bias1.to(wide)), SLOPE)
    return hidden, F.linear(hidden, weight2.to(wide), bias2.to(wide)).sigmoid()


def _backward_ref(grad: Tensor, y: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor,
                  means: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wide = means.dtype
    g = grad.to(wide)
    hidden, gate = _gate_ref(means, weight1, bias1, weight2, bias2)
    outer = (g * y.to(wide)).sum((2, 3)) * gate * (1 - gate)
    inner = outer @ weight2.to(wide)
    inner = torch.where(hidden > 0, inner, SLOPE * inner)
    by_mean = (inner @ weight1.to(wide)) / max(1, y.shape[2] * y.shape[3])
    return (g * gate[:, :, None, None] + by_mean[:, :, None, None]).to(y.dtype), outer, inner, hidden


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(y: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, residual: Tensor
        ) -> tuple[Tensor, Tensor]:
    arguments = (y, weight1, bias1, weight2, bias2, residual)
    if choose(NAME, HAS, *arguments) == "triton":
        from dan_fast_kernels import channel_attention as kernels

        out, means = kernels.forward(*arguments)
    else:
        with torch.autocast(y.device.type, enabled=False):
            out, means = _forward_ref(*arguments)
    return laid_out_like(out, residual), means


@_op.register_fake
def _fake(y, weight1, bias1, weight2, bias2, residual):
    wide = wide_dtype(y, weight1, bias1, weight2, bias2, residual)
    return torch.empty_like(residual), y.new_empty(y.shape[:2], dtype=wide)


@torch.library.custom_op(f"dan_fast::{NAME}_backward", mutates_args=())
def channel_attention_backward(grad: Tensor, y: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor,
                               means: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of y, of the gate (B, C) and the hidden layer (B, S) before their activations; and the hidden layer."""
    arguments = (grad, y, weight1, bias1, weight2, bias2, means)
    if choose(NAME, HAS, *arguments) == "triton":
        from dan_fast_kernels import channel_attention as kernels

        grad_y, outer, inner, hidden = kernels.backward(*arguments)
    else:
        with torch.autocast(y.device.type, enabled=False):
            grad_y, outer, inner, hidden = _backward_ref(*arguments)
    return laid_out_like(grad_y, y), outer, inner, hidden


@channel_attention_backward.register_fake
def _backward_fake(grad, y, weight1, bias1, weight2, bias2, means):
    hidden = (y.shape[0], weight1.shape[0])
    return torch.empty_like(y), torch.empty_like(means), means.new_empty(hidden), means.new_empty(hidden)


def _setup_context(ctx, inputs, output) -> None:
    *saved, _ = inputs
    _, means = output
    ctx.mark_non_differentiable(means)
    remember(ctx)
    ctx.save_for_backward(*saved, means)


def _backward(ctx, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    if not any(ctx.needs_input_grad[:5]):
        return *(None,) * 5, grad
    y, weight1, bias1, weight2, bias2, means = ctx.saved_tensors
    with recalled(ctx):
        grad_y, outer, inner, hidden = channel_attention_backward(grad, y, weight1, bias1, weight2, bias2, means)
    with torch.autocast(grad.device.type, enabled=False):
        makers = (
            lambda: grad_y,
            lambda: (inner.T @ means).to(weight1.dtype),
            lambda: inner.sum(0).to(bias1.dtype),
            lambda: (outer.T @ hidden).to(weight2.dtype),
            lambda: outer.sum(0).to(bias2.dtype),
            lambda: grad,
        )
        return tuple(make() if needed else None for make, needed in zip(makers, ctx.needs_input_grad, strict=True))


_op.register_autograd(_backward, setup_context=_setup_context)


def channel_attention(y: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, residual: Tensor
                      ) -> Tensor:
    """``residual + y * sigmoid(W2 lrelu0.2(W1 mean(y) + b1) + b2)`` (v1: arXiv 2010.02631, section 3.3, fig. 3).

    The mean is over the pixels of an image. Differentiable, once, in every argument; the gradients have the same bits
    each time. Computed in float32 whatever the dtypes are; in float64 where one argument has it.
    ``channel_attention(y, *attention_weights(module), x)`` is the end of a ``CRB``.

    Args:
        y: (B, C, H, W) floating point. Triton works in channels_last and copies tensors that lie otherwise.
        weight1, bias1: (S, C) [out, in] and (S,), of the layer that squeezes; S is C/16 in the paper.
        weight2, bias2: (C, S) and (C,), of the layer that excites.
        residual: (B, C, H, W) floating point; its dtype may be another than that of ``y``.

    Returns:
        (B, C, H, W), dtype and layout of ``residual``.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    check_tensors({"y": (y, IMAGE), "weight1": (weight1, ("S", "C")), "bias1": (bias1, ("S",)),
                   "weight2": (weight2, ("C", "S")), "bias2": (bias2, ("C",)), "residual": (residual, IMAGE)},
                  may_be_empty=True, advice="attention_weights(module) makes the weights")
    return _op(y, weight1, bias1, weight2, bias2, residual)[0]
