"""The image path of a dual-path block: ``x + scale * (conv(lrelu(conv(x) + bias1)) + bias2)`` in two kernels.

The extension computes it in one call, and all its gradients in another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .backend import recalled, remember
from .conv3x3 import (
    activation_gradient,
    check,
    chosen_for,
    conv3x3_bias_lrelu_ref,
    conv3x3_scale_residual_ref,
    in_autocast_dtype,
    input_gradient,
    learning,
    run_bias_lrelu,
    run_scale_residual,
    weight_gradient,
)
from .layout import laid_out_like
from .modulate import _backward_op as modulate_backward
from .packing import images, pixels

SLOPE = 0.2


def dpcb_ref(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, scale: Tensor) -> Tensor:
    """What the operator computes, in plain PyTorch; same arguments as ``dpcb``."""
    return conv3x3_scale_residual_ref(conv3x3_bias_lrelu_ref(x, weight1, bias1, SLOPE), weight2, bias2, scale, x)


@torch.library.custom_op("dan_fast::dpcb", mutates_args=())
def _op(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, scale: Tensor, store: bool
        ) -> tuple[Tensor, Tensor, Tensor]:
    """The result; and with ``store`` what its gradient needs, else empty: both convolutions', activated and bare."""
    if chosen_for("dpcb", x, weight1, bias1, weight2, bias2, scale) == "cpp":
        found = torch.ops.dan_fast.dpcb_cpp(pixels(x), weight1, bias1.contiguous(), weight2, bias2.contiguous(),
                                            scale.contiguous(), SLOPE, store)
        out, t, f1 = (laid_out_like(images(part), x) if part.dim() == 4 else part for part in found)
        return out, t, f1
    t = run_bias_lrelu("dpcb", x, weight1, bias1, SLOPE)
    out, f1 = run_scale_residual("dpcb", t, weight2, bias2, scale, x, store)
    return out, t if store else x.new_empty(0), f1


@_op.register_fake
def _fake(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, scale: Tensor, store: bool
          ) -> tuple[Tensor, Tensor, Tensor]:
    def stored() -> Tensor:
        return torch.empty_like(x) if store else x.new_empty(0)
    return torch.empty_like(x), stored(), stored()


def _gradients(needed: tuple[bool, ...], grad: Tensor, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor,
               bias2: Tensor, scale: Tensor, t: Tensor, f1: Tensor) -> tuple[Tensor | None, ...]:
    """Of ``_op``'s tensors; those that are cheap even if they are not needed."""
    grad_f1, grad_scale, grad_bias2 = modulate_backward(grad, f1, scale, bias2)
    grad_weight2 = weight_gradient(grad_f1, t, weight2) if needed[3] else None
    if not any(needed[:3]):
        return None, None, None, grad_weight2, grad_bias2, grad_scale
    inner, grad_bias1 = activation_gradient(grad_f1, weight2, t, SLOPE)
    grad_x = input_gradient(inner, weight1, add=grad) if needed[0] else None
    grad_weight1 = weight_gradient(inner, x, weight1) if needed[1] else None
    return grad_x, grad_weight1, grad_bias1.to(bias1.dtype), grad_weight2, grad_bias2, grad_scale


@torch.library.custom_op("dan_fast::dpcb_backward", mutates_args=())
def _backward_op(grad: Tensor, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, scale: Tensor,
                 t: Tensor, f1: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``_gradients``, all of them: by the extension in one call, which costs less than six."""
    found: Iterable[Any]
    if chosen_for("dpcb_backward", grad, x, weight1, bias1, weight2, bias2, scale, t, f1) == "cpp":
        found = map(images, torch.ops.dan_fast.dpcb_backward_cpp(
            pixels(grad), pixels(x), weight1, weight2, bias2.contiguous(), scale.contiguous(), pixels(t), pixels(f1),
            SLOPE))
    else:
        found = _gradients((True,) * 6, grad, x, weight1, bias1, weight2, bias2, scale, t, f1)
    return _six(map(laid_out_like, found, (x, weight1, bias1, weight2, bias2, scale)))


@_backward_op.register_fake
def _backward_fake(grad: Tensor, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor,
                   scale: Tensor, t: Tensor, f1: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _six(map(torch.empty_like, (x, weight1, bias1, weight2, bias2, scale)))


def _six(tensors: Iterable[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    a, b, c, d, e, f = tensors
    return a, b, c, d, e, f


def _setup_context(ctx, inputs, output) -> None:
    remember(ctx)
    x, weight1, bias1, weight2, bias2, scale, _ = inputs
    _, t, f1 = output
    ctx.save_for_backward(x, weight1, bias1, weight2, bias2, scale, t, f1)
    ctx.mark_non_differentiable(t, f1)
    ctx.set_materialize_grads(False)  # zeros for what has no gradient


def _backward(ctx, grad: Tensor | None, *_) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 7
    needed = ctx.needs_input_grad[:6]
    with recalled(ctx):
        if all(needed):
            return *_backward_op(grad, *ctx.saved_tensors), None
        return *_gradients(needed, grad, *ctx.saved_tensors), None


_op.register_autograd(_backward, setup_context=_setup_context)


def dpcb(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, scale: Tensor) -> Tensor:
    """``x + scale * (conv(lrelu(conv(x) + bias1)) + bias2)``, slope 0.2 (v2: arXiv 2105.06878, section 3.3, fig. 4).

    The same as ``conv3x3_bias_lrelu`` and ``conv3x3_scale_residual`` after one another, but the gradients take fewer
    passes over the images. Differentiable, once, in every argument. Precision and autocast: as
    ``conv3x3_bias_lrelu``.

    Args:
        x: (B, C, H, W) floating point. Kernels work in channels_last and copies what lies otherwise.
        weight1, weight2: (C, C, 3, 3), dtype and device of ``x``; best in channels_last too.
        bias1, bias2: (C,) floating point.
        scale: (B, C) floating point, one value an image and channel: what the condition makes of the block.

    Returns:
        (B, C, H, W), dtype and layout of ``x``.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    x, weight1, weight2 = in_autocast_dtype(x, weight1, weight2)
    check(x, {"weight1": weight1, "weight2": weight2}, {"bias1": bias1, "bias2": bias2}, scale)
    if scale.dim() != 2:
        raise ValueError(f"scale has shape {tuple(scale.shape)}, expected (B, C): one value a pixel is for "
                         "conv3x3_scale_residual")
    return _op(x, weight1, bias1, weight2, bias2, scale, learning(x, weight1, bias1, weight2, bias2, scale))[0]
