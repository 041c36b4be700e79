"""Blur every image with its own kernel and shrink it: (B, C, H, W), (B, k, k) -> (B, C, H/s, W/s).

The compiled extension computes it, in C++ on the CPU and in CUDA on a GPU; the reference where neither was built.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor

from .arguments import IMAGE, check_tensors
from .backend import choose, recalled, remember
from .blur import blur
from .resize import bicubic_resize

NAME = "blur_downsample"
HAS = ("torch", "cpp")
SCALES = (1, 2, 3, 4)


def blur_downsample_ref(hr: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """The reference of the operator, in plain PyTorch; same arguments as ``blur_downsample``."""
    return bicubic_resize(blur(hr, kernel), Fraction(1, scale)).contiguous()


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(hr: Tensor, kernel: Tensor, scale: int) -> Tensor:
    if choose(NAME, HAS, hr, kernel) == "cpp":
        return torch.ops.dan_fast.blur_downsample_cpp(hr, kernel, scale)
    with torch.autocast(hr.device.type, enabled=False):
        return blur_downsample_ref(hr, kernel, scale)


@_op.register_fake
def _fake(hr, kernel, scale):
    batch, channels, height, width = hr.shape
    return hr.new_empty(batch, channels, height // scale, width // scale)


@torch.library.custom_op(f"dan_fast::{NAME}_backward", mutates_args=())
def blur_downsample_backward(grad: Tensor, hr: Tensor, kernel: Tensor, scale: int, for_hr: bool, for_kernel: bool
                             ) -> tuple[Tensor, Tensor]:
    """Gradients of hr and kernel; one that is not needed is empty.

    The output is linear in hr and in kernel, and autograd knows both adjoints from the reference. This is an operator
    because torch.compile cannot trace into the reference.
    """
    grad_hr, grad_kernel = grad.new_empty(0), grad.new_empty(0)
    # The extension has an adjoint of its own only for hr, and only in CUDA.
    if for_hr and grad.is_cuda and choose(NAME, HAS, grad, kernel) == "cpp":
        grad_hr = torch.ops.dan_fast.blur_downsample_backward_hr(grad, kernel, scale, *hr.shape[2:])
    elif for_hr:
        grad_hr = _vjp(lambda hr: blur_downsample_ref(hr, kernel, scale), hr, grad).contiguous()
    if for_kernel:
        grad_kernel = _vjp(lambda kernel: blur_downsample_ref(hr, kernel, scale), kernel, grad)
    return grad_hr, grad_kernel.contiguous()


def _vjp(function: Callable[[Tensor], Tensor], at: Tensor, grad: Tensor) -> Tensor:
    with torch.autocast(grad.device.type, enabled=False):
        return torch.func.vjp(function, at)[1](grad)[0]


@blur_downsample_backward.register_fake
def _backward_fake(grad, hr, kernel, scale, for_hr, for_kernel):
    return (hr.new_empty(hr.shape if for_hr else 0), kernel.new_empty(kernel.shape if for_kernel else 0))


def _setup_context(ctx, inputs, output) -> None:
    hr, kernel, ctx.scale = inputs
    remember(ctx)
    ctx.save_for_backward(hr, kernel)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    for_hr, for_kernel, _ = ctx.needs_input_grad
    with recalled(ctx):
        grad_hr, grad_kernel = blur_downsample_backward(grad, *ctx.saved_tensors, ctx.scale, for_hr, for_kernel)
    return grad_hr if for_hr else None, grad_kernel if for_kernel else None, None


_op.register_autograd(_backward, setup_context=_setup_context)


def blur_downsample(hr: Tensor, kernel: Tensor, scale: int) -> Tensor:
    """Correlate every image with its kernel (not flipped), then shrink it as MATLAB's ``imresize`` does.

    The same as ``bicubic_resize(blur(hr, kernel), Fraction(1, scale))`` of ``dan_fast.degradation``,
    faster. Differentiable in ``hr`` and ``kernel``.

    Args:
        hr: (B, C, H, W) floating point, any value range; H and W multiples of ``scale`` and larger
            than ``k // 2``.
        kernel: (B, k, k) floating point, odd or even, on the device of ``hr``; centred on ``k // 2``.
        scale: 1, 2, 3 or 4.

    Returns:
        (B, C, H / scale, W / scale), contiguous, dtype and device of ``hr``; not clamped.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    if type(scale) is not int or scale not in SCALES:
        raise ValueError(f"scale={scale!r}: expected 1, 2, 3 or 4; bicubic_resize takes any other factor")
    sizes = check_tensors({"hr": (hr, IMAGE), "kernel": (kernel, ("B", "k", "k"))}, may_be_empty=True,
                          advice="one square kernel per image; repeat a common one with kernel.expand(len(hr), -1, -1)")
    height, width, k = sizes["H"], sizes["W"], sizes["k"]
    if not k:
        raise ValueError(f"kernel has shape {tuple(kernel.shape)}, expected at least one pixel: take a larger kernel")
    if height % scale or width % scale:
        raise ValueError(f"hr is {height}x{width}, expected multiples of scale={scale}: crop it to "
                         f"{height - height % scale}x{width - width % scale}")
    if min(height, width) <= k // 2:
        raise ValueError(f"hr is {height}x{width}: a {k}x{k} kernel needs more than {k // 2} pixels on each side to "
                         "reflect: take a larger image or a smaller kernel")
    return _op(hr, kernel.to(hr.dtype), scale)
