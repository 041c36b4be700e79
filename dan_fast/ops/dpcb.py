"""The image path of a dual-path block: ``x + f2 * (conv(lrelu(conv(x) + bias1)) + bias2)`` in two GPU kernels.

The extension computes it in one call, and all its gradients in another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .arguments import IMAGE, check_tensors, needs_gradient
from .backend import recalled, remember
from .conv3x3 import chosen_for, in_autocast_dtype
from .conv3x3_bias_lrelu import compute_bias_lrelu, conv3x3_bias_lrelu_ref
from .conv3x3_gradients import activation_gradient, input_gradient, weight_gradient
from .conv3x3_scale_residual import compute_scale_residual, conv3x3_scale_residual_ref
from .layout import SLOPE, laid_out_like, to_nchw, to_nhwc
from .modulate import modulate_backward

NAME = "dpcb"
Six = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def dpcb_ref(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, modulation: Tensor) -> Tensor:
    """The reference of the operator, in plain PyTorch; same arguments as ``dpcb``."""
    return conv3x3_scale_residual_ref(conv3x3_bias_lrelu_ref(x, weight1, bias1), weight2, bias2, modulation, x)


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, modulation: Tensor, store: bool
        ) -> tuple[Tensor, Tensor, Tensor]:
    """The result; with ``store`` also the activated first convolution and f1, the second without its bias.

    These two are what the gradient needs; they are empty without ``store``.
    """
    if chosen_for(NAME, x, weight1, bias1, weight2, bias2, modulation) == "cpp":
        found = torch.ops.dan_fast.dpcb_cpp(to_nhwc(x), weight1, bias1.contiguous(), weight2, bias2.contiguous(),
                                            modulation.contiguous(), SLOPE, store)
        out, activated, f1 = (laid_out_like(to_nchw(part), x) if part.dim() == 4 else part for part in found)
        return out, activated, f1
    activated = compute_bias_lrelu(NAME, x, weight1, bias1, SLOPE)
    out, f1 = compute_scale_residual(NAME, activated, weight2, bias2, modulation, x, store)
    return out, activated if store else x.new_empty(0), f1


@_op.register_fake
def _fake(x, weight1, bias1, weight2, bias2, modulation, store):
    def stored() -> Tensor:
        return torch.empty_like(x) if store else x.new_empty(0)
    return torch.empty_like(x), stored(), stored()


def dpcb_gradients(needed: tuple[bool, ...], grad: Tensor, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor,
                   bias2: Tensor, modulation: Tensor, activated: Tensor, f1: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of x, both weights and biases and modulation that are needed, and those that cost nothing more."""
    grad_f1, grad_modulation, grad_bias2 = modulate_backward(grad, f1, modulation, bias2)
    grad_weight2 = weight_gradient(grad_f1, activated, weight2) if needed[3] else None
    if not any(needed[:3]):
        return None, None, None, grad_weight2, grad_bias2, grad_modulation
    grad_linear, grad_bias1 = activation_gradient(grad_f1, weight2, activated, SLOPE)
    grad_x = input_gradient(grad_linear, weight1, add=grad) if needed[0] else None
    grad_weight1 = weight_gradient(grad_linear, x, weight1) if needed[1] else None
    return grad_x, grad_weight1, grad_bias1.to(bias1.dtype), grad_weight2, grad_bias2, grad_modulation


@torch.library.custom_op(f"dan_fast::{NAME}_backward", mutates_args=())
def dpcb_backward(grad: Tensor, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor,
                  modulation: Tensor, activated: Tensor, f1: Tensor
                  ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """All of ``dpcb_gradients``: by the extension in one call, which costs less than six."""
    found: Iterable[Any]
    if chosen_for(f"{NAME}_backward", grad, x, weight1, bias1, weight2, bias2, modulation, activated, f1) == "cpp":
        found = map(to_nchw, torch.ops.dan_fast.dpcb_backward_cpp(
            to_nhwc(grad), to_nhwc(x), weight1, weight2, bias2.contiguous(), modulation.contiguous(),
            to_nhwc(activated), to_nhwc(f1), SLOPE))
    else:
        found = dpcb_gradients((True,) * 6, grad, x, weight1, bias1, weight2, bias2, modulation, activated, f1)
    return _as_six(map(laid_out_like, found, (x, weight1, bias1, weight2, bias2, modulation)))


@dpcb_backward.register_fake
def _backward_fake(grad, x, weight1, bias1, weight2, bias2, modulation, activated, f1):
    return _as_six(map(torch.empty_like, (x, weight1, bias1, weight2, bias2, modulation)))


def _as_six(tensors: Iterable[Tensor]) -> Six:
    """The six tensors as a tuple of the type that ``custom_op`` asks for."""
    a, b, c, d, e, f = tensors
    return a, b, c, d, e, f


def _setup_context(ctx, inputs, output) -> None:
    remember(ctx)
    x, weight1, bias1, weight2, bias2, modulation, _ = inputs
    _, activated, f1 = output
    ctx.save_for_backward(x, weight1, bias1, weight2, bias2, modulation, activated, f1)
    ctx.mark_non_differentiable(activated, f1)
    ctx.set_materialize_grads(False)  # else zeros are made for the two, which have no gradient


def _backward(ctx, grad: Tensor | None, *_) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 7
    needed = ctx.needs_input_grad[:6]
    with recalled(ctx):
        if all(needed):
            return *dpcb_backward(grad, *ctx.saved_tensors), None
        return *dpcb_gradients(needed, grad, *ctx.saved_tensors), None


_op.register_autograd(_backward, setup_context=_setup_context)


def dpcb(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, modulation: Tensor) -> Tensor:
    """``x + f2 * (conv(lrelu(conv(x) + bias1)) + bias2)``, slope 0.2 (v2: arXiv 2105.06878, section 3.3, fig. 4).

    The same as ``conv3x3_bias_lrelu`` and ``conv3x3_scale_residual`` after one another, but the gradients take fewer
    passes over the images. ``modulation`` is the paper's f2. Differentiable, once, in every argument. Precision and
    autocast: as ``conv3x3_bias_lrelu``.

    Args:
        x: (B, C, H, W) floating point. Compiled code works in channels_last and copies tensors that lie otherwise.
        weight1, weight2: (C, C, 3, 3), dtype and device of ``x``; best in channels_last too.
        bias1, bias2: (C,) floating point.
        modulation: (B, C) floating point, one value per image and channel.

    Returns:
        (B, C, H, W), dtype and layout of ``x``.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    x, weight1, weight2 = in_autocast_dtype(x, weight1, weight2)
    check_tensors({"x": (x, IMAGE), "weight1": (weight1, ("C", "C", 3, 3)), "bias1": (bias1, ("C",)),
                   "weight2": (weight2, ("C", "C", 3, 3)), "bias2": (bias2, ("C",)),
                   "modulation": (modulation, ("B", "C"))}, same_dtype=("weight1", "weight2"), may_be_empty=True,
                  advice="reshape or expand it; conv3x3_scale_residual takes a modulation with one value per pixel")
    return _op(x, weight1, bias1, weight2, bias2, modulation,
               needs_gradient(x, weight1, bias1, weight2, bias2, modulation))[0]
