"""The first half of a dual-path block: a 3x3 convolution, its bias and leaky ReLU in one pass."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import IMAGE, check_tensors
from .backend import recalled, remember
from .conv3x3 import chosen_for, in_autocast_dtype
from .conv3x3_gradients import bias_gradient, input_gradient, weight_gradient
from .layout import SLOPE, laid_out_like, to_nchw, to_nhwc

NAME = "conv3x3_bias_lrelu"


def conv3x3_bias_lrelu_ref(x: Tensor, weight: Tensor, bias: Tensor, slope: float = SLOPE) -> Tensor:
    """The reference of the operator, in plain PyTorch; same arguments as ``conv3x3_bias_lrelu``."""
    return F.leaky_relu(F.conv2d(x, weight, bias.to(x.dtype), padding=1), slope)


def compute_bias_lrelu(op: str, x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    """``conv3x3_bias_lrelu`` by the backend that is chosen for ``op``, laid out like ``x``."""
    chosen = chosen_for(op, x, weight, bias)
    if chosen == "triton":
        from dan_fast_kernels import conv3x3 as kernels

        return laid_out_like(kernels.bias_lrelu(x, weight, bias, slope), x)
    if chosen == "cpp":
        out = torch.ops.dan_fast.conv3x3_bias_lrelu_cpp(to_nhwc(x), weight, bias.contiguous(), slope)
        return laid_out_like(to_nchw(out), x)
    return laid_out_like(conv3x3_bias_lrelu_ref(x, weight, bias, slope), x)


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    return compute_bias_lrelu(NAME, x, weight, bias, slope)


@_op.register_fake
def _fake(x, weight, bias, slope):
    return torch.empty_like(x)


@torch.library.custom_op(f"dan_fast::{NAME}_backward", mutates_args=())
def conv3x3_bias_lrelu_backward(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, activated: Tensor, slope: float
                                ) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias: by the extension all in one call, which costs less than three."""
    if chosen_for(f"{NAME}_backward", grad, x, weight, bias, activated) == "cpp":
        grad_x, grad_weight, grad_bias = torch.ops.dan_fast.conv3x3_bias_lrelu_backward_cpp(
            to_nhwc(grad), to_nhwc(x), weight, to_nhwc(activated), slope)
        return laid_out_like(to_nchw(grad_x), x), laid_out_like(to_nchw(grad_weight), weight), grad_bias
    return tuple(_gradients((True, True, True), grad, x, weight, bias, activated, slope))


@conv3x3_bias_lrelu_backward.register_fake
def _backward_fake(grad, x, weight, bias, activated, slope):
    return torch.empty_like(x), torch.empty_like(weight), bias.new_empty(bias.shape)


def _gradients(needed: tuple[bool, ...], grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, activated: Tensor,
               slope: float) -> list[Any]:
    """The gradients of x, weight and bias that are needed; None for the others."""
    grad_linear = torch.ops.aten.leaky_relu_backward(grad, activated, slope, True)
    makers = (lambda: laid_out_like(input_gradient(grad_linear, weight), x),
              lambda: weight_gradient(grad_linear, x, weight), lambda: bias_gradient(grad_linear, bias))
    return [make() if need else None for make, need in zip(makers, needed, strict=True)]


def _setup_context(ctx, inputs, output) -> None:
    remember(ctx)
    x, weight, bias, ctx.slope = inputs
    ctx.save_for_backward(x, weight, bias, output)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[:3]
    with recalled(ctx):
        if all(needed):
            return *conv3x3_bias_lrelu_backward(grad, *ctx.saved_tensors, ctx.slope), None
        x, weight, bias, activated = ctx.saved_tensors
        return *_gradients(needed, grad, x, weight, bias, activated, ctx.slope), None


_op.register_autograd(_backward, setup_context=_setup_context)


def conv3x3_bias_lrelu(x: Tensor, weight: Tensor, bias: Tensor, slope: float = SLOPE) -> Tensor:
    """``leaky_relu(conv2d(x, weight, bias, padding=1), slope)`` (v2: arXiv 2105.06878, fig. 4).

    ``slope=1`` leaves the convolution alone. Differentiable, once, in every tensor. Sums, bias and leaky ReLU are
    in float32. Float32 products are rounded to TensorFloat-32 where
    ``torch.backends.cudnn.conv.fp32_precision == "tf32"`` (PyTorch's default for convolutions, also known as
    ``torch.backends.cudnn.allow_tf32``). Under autocast ``x`` and ``weight`` are taken in its dtype.

    The extension takes float32 with C = 16, 32, 48, 64 or 80 (Winograd's F(4x4, 3x3): Lavin and Gray, arXiv
    1509.09308). The root mean square of its error is at most 2e-6 of the result's: about twice that of PyTorch's
    convolutions, for the weight's gradient about the same. Results and gradients have the same bits each time, for any
    number of threads. Around a value that is not finite, results up to 3 pixels further are not finite either. Weights
    are transformed in every call, forward and backward.

    Args:
        x: (B, C, H, W) floating point. Compiled code works in channels_last and copies tensors that lie otherwise.
        weight: (C, C, 3, 3), dtype and device of ``x``; best in channels_last too, which is used where it lies.
        bias: (C,) floating point.
        slope: of the leaky ReLU for negative values, 0 or more.

    Returns:
        (B, C, H, W), dtype and layout of ``x``.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    x, weight = in_autocast_dtype(x, weight)
    check_tensors({"x": (x, IMAGE), "weight": (weight, ("C", "C", 3, 3)), "bias": (bias, ("C",))},
                  same_dtype=("weight",), may_be_empty=True)
    if not slope >= 0:
        raise ValueError(f"slope={slope!r}: expected 0 or more, so that the result tells the sign of its input")
    return _op(x, weight, bias, float(slope))
