"""The modulation of a dual-path block: ``x + (f1 + bias) * f2``, one value f2 per image and channel."""

from __future__ import annotations

import torch
from torch import Tensor

from .arguments import IMAGE, check_tensors
from .backend import choose, recalled, remember
from .layout import laid_out_like, to_nchw, to_nhwc, wide_dtype
from .packing import float32_refusal

NAME = "modulate"
HAS = ("torch", "cpp", "triton")


def modulate_ref(x: Tensor, f1: Tensor, modulation: Tensor, bias: Tensor | None = None) -> Tensor:
    """The reference of the operator, in plain PyTorch; same arguments as ``modulate``."""
    wide = wide_dtype(x, f1, modulation)
    value = f1.to(wide)
    if bias is not None:
        value = value + bias.to(wide)[:, None, None]
    return (x.to(wide) + value * modulation.to(wide)[:, :, None, None]).to(x.dtype)


def _chosen(*tensors: Tensor | None) -> str:
    refusal = float32_refusal([tensor for tensor in tensors if tensor is not None])
    return choose(NAME, HAS, *tensors, cpp_refuses=refusal)


def _bias_or_zeros(bias: Tensor | None, modulation: Tensor) -> Tensor:
    """The bias as the extension needs it, which always takes one."""
    return modulation.new_zeros(modulation.shape[1]) if bias is None else bias.contiguous()


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(x: Tensor, f1: Tensor, modulation: Tensor, bias: Tensor | None) -> Tensor:
    chosen = _chosen(x, f1, modulation, bias)
    if chosen == "triton":
        from dan_fast_kernels import modulate as kernels

        return laid_out_like(kernels.forward(x, f1, modulation, bias), x)
    if chosen == "cpp":
        out = torch.ops.dan_fast.modulate_cpp(to_nhwc(x), to_nhwc(f1), modulation.contiguous(),
                                              _bias_or_zeros(bias, modulation))
        return laid_out_like(to_nchw(out), x)
    return laid_out_like(modulate_ref(x, f1, modulation, bias), x)


@_op.register_fake
def _fake(x, f1, modulation, bias):
    return torch.empty_like(x)


@torch.library.custom_op(f"dan_fast::{NAME}_backward", mutates_args=())
def modulate_backward(grad: Tensor, f1: Tensor, modulation: Tensor, bias: Tensor | None
                      ) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of f1, modulation and bias; the last is empty without a bias. That of x is ``grad`` itself."""
    grad_bias: Tensor | None
    chosen = _chosen(grad, f1, modulation, bias)
    if chosen == "triton":
        from dan_fast_kernels import modulate as kernels

        grad_f1, grad_modulation, grad_bias = kernels.backward(grad, f1, modulation, bias)
    elif chosen == "cpp":
        found, grad_modulation, grad_bias = torch.ops.dan_fast.modulate_backward_cpp(
            to_nhwc(grad), to_nhwc(f1), modulation.contiguous(), _bias_or_zeros(bias, modulation))
        grad_f1, grad_bias = to_nchw(found), None if bias is None else grad_bias
    else:
        grad_f1, grad_modulation, grad_bias = _backward_ref(grad, f1, modulation, bias)
    return (laid_out_like(grad_f1, f1), grad_modulation,
            modulation.new_empty(0) if grad_bias is None else grad_bias)


def _backward_ref(grad: Tensor, f1: Tensor, modulation: Tensor, bias: Tensor | None
                  ) -> tuple[Tensor, Tensor, Tensor | None]:
    wide = wide_dtype(grad, f1, modulation)
    g, f2 = grad.to(wide), modulation.to(wide)
    grad_f1 = (g * f2[:, :, None, None]).to(f1.dtype)
    grad_f2 = (g * f1.to(wide)).sum((2, 3))
    if bias is None:
        return grad_f1, grad_f2.to(modulation.dtype), None
    summed = g.sum((2, 3))
    return grad_f1, (grad_f2 + summed * bias.to(wide)).to(modulation.dtype), (summed * f2).sum(0).to(bias.dtype)


@modulate_backward.register_fake
def _backward_fake(grad, f1, modulation, bias):
    return (torch.empty_like(f1), modulation.new_empty(modulation.shape),
            modulation.new_empty(0) if bias is None else bias.new_empty(bias.shape))


def _setup_context(ctx, inputs, output) -> None:
    remember(ctx)
    ctx.save_for_backward(*inputs[1:])


def _backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    f1, modulation, bias = ctx.saved_tensors
    if not any(ctx.needs_input_grad[1:]):
        return grad, None, None, None
    with recalled(ctx):
        grad_f1, grad_modulation, grad_bias = modulate_backward(grad, f1, modulation, bias)
    return grad, grad_f1, grad_modulation, None if bias is None else grad_bias


_op.register_autograd(_backward, setup_context=_setup_context)


def modulate(x: Tensor, f1: Tensor, modulation: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x + (f1 + bias[:, None, None]) * modulation[:, :, None, None]`` (v2: arXiv 2105.06878, section 3.3, fig. 4).

    This is how the condition acts on the image; ``modulation`` is the paper's f2. Differentiable, once, in every
    argument; the gradients come from one pass over the image, and have the same bits each time. Computed in float32
    whatever the dtypes are; in float64 where one argument has it. The extension takes float32 alone.

    Args:
        x: (B, C, H, W) floating point. Compiled code works in channels_last and copies tensors that lie otherwise.
        f1: (B, C, H, W) floating point, the output of a block's second convolution; its dtype may be another.
        modulation: (B, C) floating point, one value per image and channel.
        bias: (C,) floating point, for instance that of the convolution that made ``f1``.

    Returns:
        (B, C, H, W), dtype and layout of ``x``.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    check_tensors({"x": (x, IMAGE), "f1": (f1, IMAGE), "modulation": (modulation, ("B", "C")), "bias": (bias, ("C",))},
                  may_be_empty=True)
    return _op(x, f1, modulation, bias)
