"""The second half of a dual-path block: a 3x3 convolution, its modulation and the block's residual in one pass."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import IMAGE, check_tensors, needs_gradient
from .backend import recalled, remember
from .conv3x3 import chosen_for, in_autocast_dtype
from .conv3x3_gradients import bias_gradient, input_gradient, weight_gradient
from .layout import laid_out_like, to_nchw, to_nhwc, wide_dtype
from .modulate import modulate_backward

NAME = "conv3x3_scale_residual"


def conv3x3_scale_residual_ref(x: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor, residual: Tensor) -> Tensor:
    """The reference of the operator, in plain PyTorch; same arguments as ``conv3x3_scale_residual``."""
    return _modulated_ref(F.conv2d(x, weight, padding=1), bias, modulation, residual)


def _modulated_ref(f1: Tensor, bias: Tensor, modulation: Tensor, residual: Tensor) -> Tensor:
    """``residual + modulation * (f1 + bias)``."""
    wide = wide_dtype(f1, residual, modulation)
    factors = modulation[:, :, None, None] if modulation.dim() == 2 else modulation
    return (residual.to(wide) + (f1.to(wide) + bias.to(wide)[:, None, None]) * factors.to(wide)).to(residual.dtype)


def compute_scale_residual(op: str, x: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor, residual: Tensor,
                           store: bool) -> tuple[Tensor, Tensor]:
    """``conv3x3_scale_residual`` by the backend that is chosen for ``op``.

    With ``store`` also the convolution f1 without its bias, which the gradient needs; else an empty tensor.
    """
    chosen = chosen_for(op, x, weight, bias, modulation, residual)
    if chosen == "triton":
        from dan_fast_kernels import conv3x3 as kernels

        out, f1 = kernels.scale_residual(x, weight, bias, modulation, residual, store)
    elif chosen == "cpp":
        out, f1 = map(to_nchw, torch.ops.dan_fast.conv3x3_scale_residual_cpp(
            to_nhwc(x), weight, bias.contiguous(), _for_extension(modulation), to_nhwc(residual), store))
    else:
        f1 = F.conv2d(x, weight, padding=1)
        out = _modulated_ref(f1, bias, modulation, residual)
    return laid_out_like(out, residual), laid_out_like(f1, x) if store and f1 is not None else x.new_empty(0)


def _for_extension(modulation: Tensor) -> Tensor:
    return to_nhwc(modulation) if modulation.dim() == 4 else modulation.contiguous()


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(x: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor, residual: Tensor, store: bool
        ) -> tuple[Tensor, Tensor]:
    return compute_scale_residual(NAME, x, weight, bias, modulation, residual, store)


@_op.register_fake
def _fake(x, weight, bias, modulation, residual, store):
    return torch.empty_like(residual), torch.empty_like(x) if store else x.new_empty(0)


@torch.library.custom_op(f"dan_fast::{NAME}_backward", mutates_args=())
def conv3x3_scale_residual_backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor,
                                    f1: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias and modulation: by the extension all in one call, which costs less than four."""
    if chosen_for(f"{NAME}_backward", grad, x, weight, bias, modulation, f1) == "cpp":
        grad_x, grad_weight, grad_bias, grad_modulation = torch.ops.dan_fast.conv3x3_scale_residual_backward_cpp(
            to_nhwc(grad), to_nhwc(x), weight, bias.contiguous(), _for_extension(modulation), to_nhwc(f1))
        return (laid_out_like(to_nchw(grad_x), x), laid_out_like(to_nchw(grad_weight), weight), grad_bias,
                laid_out_like(to_nchw(grad_modulation), modulation))
    return tuple(_gradients((True, True, True, True), grad, x, weight, bias, modulation, f1))


@conv3x3_scale_residual_backward.register_fake
def _backward_fake(grad, x, weight, bias, modulation, f1):
    return torch.empty_like(x), torch.empty_like(weight), bias.new_empty(bias.shape), torch.empty_like(modulation)


def _gradients(needed: tuple[bool, ...], grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor,
               f1: Tensor) -> list[Any]:
    """The gradients of x, weight, bias and modulation that are needed; None for the others."""
    if modulation.dim() == 2:
        grad_f1, grad_modulation, grad_bias = modulate_backward(grad, f1, modulation, bias)
    else:
        wide = wide_dtype(grad, f1, modulation)
        modulated = grad.to(wide) * modulation.to(wide)
        grad_f1, grad_bias = modulated.to(x.dtype), bias_gradient(modulated, bias)
        grad_modulation = (grad.to(wide) * (f1.to(wide) + bias.to(wide)[:, None, None])).to(modulation.dtype)
    return [laid_out_like(input_gradient(grad_f1, weight), x) if needed[0] else None,
            weight_gradient(grad_f1, x, weight) if needed[1] else None, grad_bias if needed[2] else None,
            laid_out_like(grad_modulation, modulation) if needed[3] else None]


def _setup_context(ctx, inputs, output) -> None:
    remember(ctx)
    ctx.save_for_backward(*inputs[:4], output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # else zeros are made for f1, which has no gradient


def _backward(ctx, grad: Tensor | None, _) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    needed = ctx.needs_input_grad[:4]
    with recalled(ctx):
        if all(needed):
            return *conv3x3_scale_residual_backward(grad, *ctx.saved_tensors), grad, None
        return *_gradients(needed, grad, *ctx.saved_tensors), grad, None


_op.register_autograd(_backward, setup_context=_setup_context)


def conv3x3_scale_residual(x: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor, residual: Tensor) -> Tensor:
    """``residual + modulation * conv2d(x, weight, bias, padding=1)`` (v2: arXiv 2105.06878, fig. 4).

    Differentiable, once, in every argument; then the convolution f1 is stored too. Precision and autocast: as
    ``conv3x3_bias_lrelu``.

    Args:
        x: (B, C, H, W) floating point. Compiled code works in channels_last and copies tensors that lie otherwise.
        weight: (C, C, 3, 3), dtype and device of ``x``; best in channels_last too, which is used where it lies.
        bias: (C,) floating point.
        modulation: (B, C) or (B, C, H, W) floating point, one value per image and channel, or per pixel too.
        residual: (B, C, H, W) floating point; its dtype may be another.

    Returns:
        (B, C, H, W), dtype and layout of ``residual``.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    x, weight = in_autocast_dtype(x, weight)
    check_tensors({"x": (x, IMAGE), "weight": (weight, ("C", "C", 3, 3)), "bias": (bias, ("C",)),
                   "modulation": (modulation, IMAGE if modulation.dim() == 4 else ("B", "C")),
                   "residual": (residual, IMAGE)}, same_dtype=("weight",), may_be_empty=True,
                  advice="reshape or expand it; modulation may have one value per pixel, (B, C, H, W)")
    return _op(x, weight, bias, modulation, residual, needs_gradient(x, weight, bias, modulation, residual))[0]
