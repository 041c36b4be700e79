"""The end of v2's Estimator: from its last image to the blur kernel and its code, with no convolution on the image."""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import IMAGE, check_tensors
from .backend import choose
from .layout import wide_dtype

NAME = "estimator_tail"
HAS = ("torch", "triton")
TRITON_CHANNELS = 64  # of the image, at most; the convolution may have twice as many


class TailWeights(NamedTuple):
    """The arguments of ``estimator_tail`` between image and encoder: a convolution C -> F and a layer F -> k*k."""

    conv_weight: Tensor
    conv_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor


def estimator_tail_ref(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor,
                       encoder: Tensor) -> tuple[Tensor, Tensor]:
    """The reference of the operator, in plain PyTorch; same arguments as ``estimator_tail``."""
    kernel, code, _, _ = _forward_ref(x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    return kernel.unflatten(1, (isqrt(len(out_weight)), -1)), code


def _forward_ref(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor,
                 encoder: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Kernel (B, k*k), code (B, c), the sums that each tap meets (B, C, 3, 3), and the convolution's mean (B, F)."""
    wide = wide_dtype(x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    windows = pooled(x.to(wide))
    return _from_windows(windows, x.shape[2] * x.shape[3], conv_weight, conv_bias, out_weight, out_bias, encoder)


def _from_windows(windows: Tensor, pixels: int, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor,
                  out_bias: Tensor, encoder: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wide = windows.dtype
    mean = F.linear(windows.flatten(1) / pixels, conv_weight.to(wide).flatten(1), conv_bias.to(wide))
    kernel = F.linear(mean, out_weight.to(wide), out_bias.to(wide)).softmax(1)
    return kernel, kernel @ encoder.to(wide), windows, mean


def pooled(x: Tensor, core: tuple[slice, slice] | None = None) -> Tensor:
    """For each tap of a 3x3 convolution with zero padding, the sum of the pixels that it meets.

    Args:
        x: (B, C, H, W) floating point.
        core: rows and columns of the convolution's output to sum over, not empty; default: all. The sums of disjoint
            cores add up.

    Returns:
        (B, C, 3, 3), float32, or float64 if ``x`` is.
    """
    wide = wide_dtype(x)
    rows, columns = (slice(0, x.shape[2]), slice(0, x.shape[3])) if core is None else core

    def three_windows(dim: int, core: slice, middle: Tensor, values: Tensor) -> Tensor:
        """Stack the sums that the three taps along ``dim`` meet: over ``core`` shifted by -1, 0 and +1.

        ``middle`` is the sum over ``core`` itself.
        """
        def one(index: int) -> Tensor:
            return values.select(dim, index).to(wide)

        last = values.shape[dim]
        earlier, later = middle - one(core.stop - 1), middle - one(core.start)
        if core.start > 0:
            earlier = earlier + one(core.start - 1)
        if core.stop < last:
            later = later + one(core.stop)
        return torch.stack((earlier, middle, later), dim)

    # Only this line reads the whole image. PyTorch adds up whole rows ten times as fast as columns.
    column_sums = x.permute(0, 2, 3, 1)[:, rows].flatten(2).sum(1, dtype=wide)
    down = three_windows(2, rows, column_sums.unflatten(1, (-1, x.shape[1])).transpose(1, 2), x)
    return three_windows(3, columns, down[..., columns].sum(3), down)


def tail_of_pooled(windows: Tensor, pixels: int, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor,
                   out_bias: Tensor, encoder: Tensor) -> tuple[Tensor, Tensor]:
    """``estimator_tail`` of an image of ``pixels`` pixels whose sums ``pooled`` are known: for images in tiles.

    ``windows`` is (B, C, 3, 3), float32 or float64; everything else is as for ``estimator_tail``.
    """
    kernel, code, _, _ = _from_windows(windows, pixels, conv_weight, conv_bias, out_weight, out_bias, encoder)
    return kernel.unflatten(1, (isqrt(len(out_weight)), -1)), code


def _windows_backward(grad: Tensor, height: int, width: int) -> Tensor:
    """(B, C, 3, 3) to (B, C, H, W): a pixel gets the sum of the gradients of the taps that meet it."""
    def reached(length: int) -> Tensor:
        """(3, length): the first tap does not meet the last pixel, the last tap not the first pixel."""
        ones = grad.new_ones(3, length)
        # Not ones[0, -1] = 0, which copies from the host: no CUDA graph can be captured there.
        ones[0, -1].zero_()
        ones[2, 0].zero_()
        return ones

    return reached(height).T @ grad @ reached(width)


def estimator_tail_refusal(channels: int, features: int) -> str:
    """Why the GPU kernels do not take a convolution ``channels`` -> ``features``; empty if they do."""
    if channels <= TRITON_CHANNELS and features <= 2 * TRITON_CHANNELS:
        return ""
    return (f"the convolution is {channels} -> {features} and the kernel takes up to {TRITON_CHANNELS} -> "
            f"{2 * TRITON_CHANNELS}")


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor, encoder: Tensor
        ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    arguments = (x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    refusal = estimator_tail_refusal(x.shape[1], conv_weight.shape[0])
    if choose(NAME, HAS, *arguments, triton_refuses=refusal) == "triton":
        from dan_fast_kernels import estimator_tail as kernels

        return kernels.forward(*arguments)
    with torch.autocast(x.device.type, enabled=False):
        return _forward_ref(*arguments)


@_op.register_fake
def _fake(x, conv_weight, conv_bias, out_weight, out_bias, encoder):
    wide = wide_dtype(x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    batch = x.shape[0]
    shapes = ((batch, out_weight.shape[0]), (batch, encoder.shape[1]), (batch, x.shape[1], 3, 3),
              (batch, conv_weight.shape[0]))
    return tuple(x.new_empty(shape, dtype=wide) for shape in shapes)


def _setup_context(ctx, inputs, output) -> None:
    x, conv_weight, conv_bias, out_weight, out_bias, encoder = inputs
    kernel, _, windows, mean = output
    ctx.mark_non_differentiable(windows, mean)
    ctx.bias_dtypes = conv_bias.dtype, out_bias.dtype
    # The image itself is not needed, only its shape, dtype and layout.
    ctx.image = x.shape, x.dtype, x.is_contiguous(memory_format=torch.channels_last)
    ctx.save_for_backward(conv_weight, out_weight, encoder, kernel, windows, mean)


def _backward(ctx, grad_kernel: Tensor, grad_code: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    """Plain PyTorch on every backend: all but the gradient of the image are small products."""
    conv_weight, out_weight, encoder, kernel, windows, mean = ctx.saved_tensors
    shape, dtype, channels_last = ctx.image
    wide = kernel.dtype
    pixels = shape[2] * shape[3]
    with torch.autocast(kernel.device.type, enabled=False):
        grad = grad_kernel + grad_code @ encoder.to(wide).T
        grad = kernel * (grad - (kernel * grad).sum(1, keepdim=True))
        grad_mean = grad @ out_weight.to(wide)

        def grad_x() -> Tensor:
            grad_windows = (grad_mean @ conv_weight.to(wide).flatten(1) / pixels).view_as(windows)
            image = _windows_backward(grad_windows, *shape[2:]).to(dtype)
            return image.contiguous(memory_format=torch.channels_last) if channels_last else image

        makers = (
            grad_x,
            lambda: (grad_mean.T @ windows.flatten(1) / pixels).view_as(conv_weight).to(conv_weight.dtype),
            lambda: grad_mean.sum(0).to(ctx.bias_dtypes[0]),
            lambda: (grad.T @ mean).to(out_weight.dtype),
            lambda: grad.sum(0).to(ctx.bias_dtypes[1]),
        )
        grads = [make() if needed else None for make, needed in zip(makers, ctx.needs_input_grad, strict=False)]
    return *grads, None


_op.register_autograd(_backward, setup_context=_setup_context)


def estimator_tail(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor,
                   encoder: Tensor) -> tuple[Tensor, Tensor]:
    """The blur kernel and its code (v2: arXiv 2105.06878, section 3.4), without the convolution on the image.

    ``kernel = softmax(W mean(conv3x3(x)) + b)`` and ``code = kernel.flatten(1) @ encoder``, the convolution with zero
    padding. Its mean needs only the sums of the pixels that each of its nine taps meets: the sum of the image, less a
    border row, a border column or both. Exact for images of every size from 1x1 on. Differentiable, once, in every
    argument but the encoder. Computed in float32 whatever the dtypes are; in float64 where one argument has it.
    ``estimator_tail(x, *tail_weights(estimator), model.encoder[0])`` is the end of an iteration.

    Args:
        x: (B, C, H, W) floating point, at least one pixel. Triton works in channels_last and copies tensors that lie
            otherwise; it takes C up to 64 and F up to 128.
        conv_weight, conv_bias: (F, C, 3, 3) and (F,).
        out_weight, out_bias: (k*k, F) [out, in] and (k*k,).
        encoder: (k*k, c).

    Returns:
        kernel (B, k, k), positive, sum 1, and code (B, c); contiguous, float32 or float64.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    side = check_estimator_tail(x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    kernel, code, _, _ = _op(x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    return kernel.unflatten(1, (side, side)), code


def check_estimator_tail(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor,
                         encoder: Tensor) -> int:
    """The side k of the kernel; raises ``ValueError`` unless the arguments fit ``estimator_tail``."""
    taps = len(out_weight)
    side = isqrt(taps)
    if out_weight.dim() == 2 and (not side or side**2 != taps):
        raise ValueError(f"out_weight has shape {tuple(out_weight.shape)}, expected (k*k, F) and {taps} is no square: "
                         "tail_weights(estimator) makes the weights")
    check_tensors({"x": (x, IMAGE), "conv_weight": (conv_weight, ("F", "C", 3, 3)), "conv_bias": (conv_bias, ("F",)),
                   "out_weight": (out_weight, ("k*k", "F")), "out_bias": (out_bias, ("k*k",)),
                   "encoder": (encoder, ("k*k", "c"))},
                  may_be_empty=True, advice="tail_weights(estimator) makes the weights")
    if 0 in x.shape[1:]:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected at least one pixel and channel: take a larger image")
    return side
