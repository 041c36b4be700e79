"""The modulation of a dual-path block: ``x + (f1 + bias) * f2`` with one ``f2`` an image and channel."""

from __future__ import annotations

import torch
from torch import Tensor

from .backend import choose, recalled, remember
from .layout import laid_out_like, wide_dtype
from .packing import float32_refusal, images, pixels

NAME = "dan_fast::modulate"
HAS = ("torch", "cpp", "triton")


def modulate_ref(x: Tensor, f1: Tensor, f2: Tensor, bias: Tensor | None = None) -> Tensor:
    """What the operator computes, in plain PyTorch; same arguments as ``modulate``."""
    wide = wide_dtype(x, f1, f2)
    value = f1.to(wide)
    if bias is not None:
        value = value + bias.to(wide)[:, None, None]
    return (x.to(wide) + value * f2.to(wide)[:, :, None, None]).to(x.dtype)


def _chosen(*tensors: Tensor | None) -> str:
    refusal = float32_refusal([tensor for tensor in tensors if tensor is not None])
    return choose("modulate", HAS, *tensors, cpp_refuses=refusal)


def _some(bias: Tensor | None, f2: Tensor) -> Tensor:
    """The extension takes no bias as zeros."""
    return f2.new_zeros(f2.shape[1]) if bias is None else bias.contiguous()


@torch.library.custom_op(NAME, mutates_args=())
def _op(x: Tensor, f1: Tensor, f2: Tensor, bias: Tensor | None) -> Tensor:
    chosen = _chosen(x, f1, f2, bias)
    if chosen == "triton":
        from dan_fast_kernels import modulate as kernels

        return laid_out_like(kernels.forward(x, f1, f2, bias), x)
    if chosen == "cpp":
        out = torch.ops.dan_fast.modulate_cpp(pixels(x), pixels(f1), f2.contiguous(), _some(bias, f2))
        return laid_out_like(images(out), x)
    return laid_out_like(modulate_ref(x, f1, f2, bias), x)


@_op.register_fake
def _fake(x: Tensor, f1: Tensor, f2: Tensor, bias: Tensor | None) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op(f"{NAME}_backward", mutates_args=())
def _backward_op(grad: Tensor, f1: Tensor, f2: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of f1, f2 and bias; the last is empty without a bias."""
    grad_bias: Tensor | None
    chosen = _chosen(grad, f1, f2, bias)
    if chosen == "triton":
        from dan_fast_kernels import modulate as kernels

        grad_f1, grad_f2, grad_bias = kernels.backward(grad, f1, f2, bias)
    elif chosen == "cpp":
        found, grad_f2, grad_bias = torch.ops.dan_fast.modulate_backward_cpp(pixels(grad), pixels(f1), f2.contiguous(),
                                                                             _some(bias, f2))
        grad_f1, grad_bias = images(found), None if bias is None else grad_bias
    else:
        grad_f1, grad_f2, grad_bias = _backward_ref(grad, f1, f2, bias)
    return laid_out_like(grad_f1, f1), grad_f2, f2.new_empty(0) if grad_bias is None else grad_bias


def _backward_ref(grad: Tensor, f1: Tensor, f2: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    wide = wide_dtype(grad, f1, f2)
    g, scale = grad.to(wide), f2.to(wide)
    grad_f1 = (g * scale[:, :, None, None]).to(f1.dtype)
    grad_f2 = (g * f1.to(wide)).sum((2, 3))
    if bias is None:
        return grad_f1, grad_f2.to(f2.dtype), None
    plain = g.sum((2, 3))
    return grad_f1, (grad_f2 + plain * bias.to(wide)).to(f2.dtype), (plain * scale).sum(0).to(bias.dtype)


@_backward_op.register_fake
def _backward_fake(grad: Tensor, f1: Tensor, f2: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    return (torch.empty_like(f1), f2.new_empty(f2.shape),
            f2.new_empty(0) if bias is None else bias.new_empty(bias.shape))


def _setup_context(ctx, inputs, output) -> None:
    remember(ctx)
    ctx.save_for_backward(*inputs[1:])


def _backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    f1, f2, bias = ctx.saved_tensors
    if not any(ctx.needs_input_grad[1:]):
        return grad, None, None, None
    with recalled(ctx):
        grad_f1, grad_f2, grad_bias = _backward_op(grad, f1, f2, bias)
    return grad, grad_f1, grad_f2, None if bias is None else grad_bias


_op.register_autograd(_backward, setup_context=_setup_context)


def modulate(x: Tensor, f1: Tensor, f2: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x + (f1 + bias) * f2``: how the condition acts on the image (v2: arXiv 2105.06878, section 3.3, fig. 4).

    Differentiable, once, in every argument; the gradients come from one pass over the image, and are the same
    in every bit each time. Computed in float32 whatever the dtypes are; in float64 where one argument has it. The
    extension takes float32 alone.

    Args:
        x: (B, C, H, W) floating point. Kernels work in channels_last and copies what lies otherwise.
        f1: the same shape and device; its dtype may be another.
        f2: (B, C) floating point, one value an image and channel.
        bias: (C,) floating point, for instance that of the convolution that made ``f1``.

    Returns:
        (B, C, H, W), dtype and layout of ``x``.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    _check(x, f1, f2, bias)
    return _op(x, f1, f2, bias)


def _check(x: Tensor, f1: Tensor, f2: Tensor, bias: Tensor | None) -> None:
    if x.dim() != 4:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected (B, C, H, W): add a batch dimension with x[None]")
    batch, channels = x.shape[:2]
    for name, tensor, shape in (("f1", f1, tuple(x.shape)), ("f2", f2, (batch, channels)), ("bias", bias, (channels,))):
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape} to go with x "
                             f"{tuple(x.shape)}: reshape or expand it")
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device} and x on {x.device}, expected the same: "
                             f"{name}.to(x.device)")
    for name, tensor in (("x", x), ("f1", f1), ("f2", f2), ("bias", bias)):
        if tensor is not None and not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}, expected floating point: convert it with .float()")
