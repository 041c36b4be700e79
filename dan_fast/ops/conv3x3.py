"""3x3 convolutions of the dual-path blocks that finish in registers: bias + leaky ReLU; scale + residual.

Both keep the grid (zero padding of 1) and the number of channels. Triton has kernels for 16, 32 and 64 channels; on the
CPU the compiled extension computes float32 with 16, 32, 48, 64 or 80, forward and all gradients.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import choose, recalled, remember
from .layout import laid_out_like, wide_dtype
from .modulate import _backward_op as modulate_backward
from .packing import cpp_refusal, images, pixels

HAS = ("torch", "cpp", "triton")
TRITON_CHANNELS = (16, 32, 64)


def conv3x3_bias_lrelu_ref(x: Tensor, weight: Tensor, bias: Tensor, slope: float = 0.2) -> Tensor:
    """What the operator computes, in plain PyTorch; same arguments as ``conv3x3_bias_lrelu``."""
    return F.leaky_relu(F.conv2d(x, weight, bias.to(x.dtype), padding=1), slope)


def conv3x3_scale_residual_ref(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, residual: Tensor) -> Tensor:
    """What the operator computes, in plain PyTorch; same arguments as ``conv3x3_scale_residual``."""
    return _finish_ref(F.conv2d(x, weight, padding=1), bias, scale, residual)


def _finish_ref(conv: Tensor, bias: Tensor, scale: Tensor, residual: Tensor) -> Tensor:
    wide = wide_dtype(conv, residual, scale)
    value = conv.to(wide) + bias.to(wide)[:, None, None]
    return (residual.to(wide) + value * _per_pixel(scale).to(wide)).to(residual.dtype)


def run_bias_lrelu(op: str, x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    """``conv3x3_bias_lrelu`` by the backend that is chosen for ``op``, laid out like ``x``."""
    chosen = chosen_for(op, x, weight, bias)
    if chosen == "triton":
        from dan_fast_kernels import conv3x3 as kernels

        return laid_out_like(kernels.bias_lrelu(x, weight, bias, slope), x)
    if chosen == "cpp":
        out = torch.ops.dan_fast.conv3x3_bias_lrelu_cpp(pixels(x), weight, bias.contiguous(), slope)
        return laid_out_like(images(out), x)
    return laid_out_like(conv3x3_bias_lrelu_ref(x, weight, bias, slope), x)


def run_scale_residual(op: str, x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, residual: Tensor, store: bool
                       ) -> tuple[Tensor, Tensor]:
    """``conv3x3_scale_residual``, and with ``store`` the bare ``conv(x)`` that its gradient needs, else empty."""
    chosen = chosen_for(op, x, weight, bias, scale, residual)
    if chosen == "triton":
        from dan_fast_kernels import conv3x3 as kernels

        out, conv = kernels.scale_residual(x, weight, bias, scale, residual, store)
    elif chosen == "cpp":
        factor = pixels(scale) if scale.dim() == 4 else scale.contiguous()
        out, conv = map(images, torch.ops.dan_fast.conv3x3_scale_residual_cpp(
            pixels(x), weight, bias.contiguous(), factor, pixels(residual), store))
    else:
        conv = F.conv2d(x, weight, padding=1)
        out = _finish_ref(conv, bias, scale, residual)
    return laid_out_like(out, residual), laid_out_like(conv, x) if store and conv is not None else x.new_empty(0)


def triton_refusal(channels: int) -> str:
    """Why there is no kernel for so many channels; empty if there is one."""
    if channels in TRITON_CHANNELS:
        return ""
    return f"x has {channels} channels and the kernels are for {', '.join(map(str, TRITON_CHANNELS))}"


def chosen_for(op: str, x: Tensor, *others: Tensor | None) -> str:
    """The backend of an operator of this file, or of ``dpcb``, for these arguments."""
    given = [x, *(tensor for tensor in others if tensor is not None)]
    return choose(op, HAS, *given, kernel="conv3x3", triton_refuses=triton_refusal(x.shape[1]),
                  cpp_refuses=cpp_refusal(x.shape[1], given))


@torch.library.custom_op("dan_fast::conv3x3_bias_lrelu", mutates_args=())
def _lrelu_op(x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    return run_bias_lrelu("conv3x3_bias_lrelu", x, weight, bias, slope)


@_lrelu_op.register_fake
def _lrelu_fake(x: Tensor, weight: Tensor, bias: Tensor, slope: float) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("dan_fast::conv3x3_scale_residual", mutates_args=())
def _residual_op(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, residual: Tensor, store: bool
                 ) -> tuple[Tensor, Tensor]:
    return run_scale_residual("conv3x3_scale_residual", x, weight, bias, scale, residual, store)


@_residual_op.register_fake
def _residual_fake(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, residual: Tensor, store: bool
                   ) -> tuple[Tensor, Tensor]:
    return torch.empty_like(residual), torch.empty_like(x) if store else x.new_empty(0)


@torch.library.custom_op("dan_fast::conv3x3_input_gradient", mutates_args=())
def input_gradient(grad: Tensor, weight: Tensor, activated: Tensor | None = None, slope: float = 0.0,
                   add: Tensor | None = None) -> Tensor:
    """Gradient of the convolution's input from ``grad``, that of its output; same shape and dtype as ``grad``.

    Args:
        activated: if the input was a leaky ReLU's output, that output: the gradient of the leaky ReLU's input comes
            back.
        add: is added, if ``activated`` is None.
    """
    chosen = chosen_for("conv3x3_input_gradient", grad, weight, activated, add)
    if chosen == "triton":
        from dan_fast_kernels import conv3x3 as kernels

        return laid_out_like(kernels.input_gradient(grad, weight, activated, slope, add), grad)
    if chosen == "cpp":
        found = torch.ops.dan_fast.conv3x3_input_gradient_cpp(
            pixels(grad), weight, None if activated is None else pixels(activated), slope,
            None if activated is not None or add is None else pixels(add))
        return laid_out_like(images(found), grad)
    found, _, _ = _convolution_backward(grad, grad, weight, [True, False, False])
    if activated is not None:
        found = torch.ops.aten.leaky_relu_backward(found, activated, slope, True)
    elif add is not None:
        found = (found.to(wide_dtype(found, add)) + add).to(grad.dtype)
    return laid_out_like(found, grad)


@input_gradient.register_fake
def _input_gradient_fake(grad: Tensor, weight: Tensor, activated: Tensor | None = None, slope: float = 0.0,
                         add: Tensor | None = None) -> Tensor:
    return torch.empty_like(grad)


@torch.library.custom_op("dan_fast::conv3x3_activation_gradient", mutates_args=())
def activation_gradient(grad: Tensor, weight: Tensor, activated: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """``input_gradient`` with ``activated``, and its sum over images and pixels, (C,): that of the bias before it.

    Triton adds up what it has in registers, before it is rounded, in float32, always in the same order.
    """
    if chosen_for("conv3x3_input_gradient", grad, weight, activated) == "triton":
        from dan_fast_kernels import conv3x3 as kernels

        found, total = kernels.activation_gradient(grad, weight, activated, slope)
        return laid_out_like(found, grad), total
    found = input_gradient(grad, weight, activated, slope)
    return found, found.sum((0, 2, 3), dtype=wide_dtype(found))


@activation_gradient.register_fake
def _activation_gradient_fake(grad: Tensor, weight: Tensor, activated: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    return torch.empty_like(grad), grad.new_empty(grad.shape[1], dtype=wide_dtype(grad))


@torch.library.custom_op("dan_fast::conv3x3_weight_gradient", mutates_args=())
def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the convolution's weight from ``grad``, that of its output for ``x``; laid out like ``weight``.

    On a GPU it is PyTorch's (cuDNN's): it is bound by arithmetic and has no epilogue to fuse. The extension sums in
    Winograd's domain, in parts that do not depend on the number of threads.
    """
    if chosen_for("conv3x3_weight_gradient", grad, x, weight) == "cpp":
        found = images(torch.ops.dan_fast.conv3x3_weight_gradient_cpp(pixels(grad), pixels(x)))
    else:
        found = _convolution_backward(grad, x, weight, [False, True, False])[1]
    return laid_out_like(found, weight)


@weight_gradient.register_fake
def _weight_gradient_fake(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    return torch.empty_like(weight)


def bias_gradient(grad: Tensor, bias: Tensor) -> Tensor:
    """A sum over images and pixels, always in the same order."""
    return grad.sum((0, 2, 3), dtype=wide_dtype(grad)).to(bias.dtype)


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, which: list[bool]):
    return torch.ops.aten.convolution_backward(grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, which)


@torch.library.custom_op("dan_fast::conv3x3_bias_lrelu_backward", mutates_args=())
def _lrelu_backward_op(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor, slope: float
                       ) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias: by the extension all in one call, which costs less than three."""
    if chosen_for("conv3x3_bias_lrelu_backward", grad, x, weight, bias, out) == "cpp":
        grad_x, grad_weight, grad_bias = torch.ops.dan_fast.conv3x3_bias_lrelu_backward_cpp(
            pixels(grad), pixels(x), weight, pixels(out), slope)
        return laid_out_like(images(grad_x), x), laid_out_like(images(grad_weight), weight), grad_bias
    return tuple(_lrelu_gradients((True, True, True), grad, x, weight, bias, out, slope))


@_lrelu_backward_op.register_fake
def _lrelu_backward_fake(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor, slope: float
                         ) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight), bias.new_empty(bias.shape)


def _lrelu_gradients(needed: tuple[bool, ...], grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, out: Tensor,
                     slope: float) -> list[Any]:
    grad = torch.ops.aten.leaky_relu_backward(grad, out, slope, True)
    makers = (lambda: laid_out_like(input_gradient(grad, weight), x), lambda: weight_gradient(grad, x, weight),
              lambda: bias_gradient(grad, bias))
    return [make() if need else None for make, need in zip(makers, needed, strict=True)]


def _lrelu_setup_context(ctx, inputs, output) -> None:
    remember(ctx)
    x, weight, bias, ctx.slope = inputs
    ctx.save_for_backward(x, weight, bias, output)


def _lrelu_backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[:3]
    with recalled(ctx):
        if all(needed):
            return *_lrelu_backward_op(grad, *ctx.saved_tensors, ctx.slope), None
        x, weight, bias, out = ctx.saved_tensors
        return *_lrelu_gradients(needed, grad, x, weight, bias, out, ctx.slope), None


_lrelu_op.register_autograd(_lrelu_backward, setup_context=_lrelu_setup_context)


@torch.library.custom_op("dan_fast::conv3x3_scale_residual_backward", mutates_args=())
def _residual_backward_op(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, conv: Tensor
                          ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias and scale: by the extension all in one call, which costs less than four."""
    if chosen_for("conv3x3_scale_residual_backward", grad, x, weight, bias, scale, conv) == "cpp":
        factor = pixels(scale) if scale.dim() == 4 else scale.contiguous()
        grad_x, grad_weight, grad_bias, grad_scale = torch.ops.dan_fast.conv3x3_scale_residual_backward_cpp(
            pixels(grad), pixels(x), weight, bias.contiguous(), factor, pixels(conv))
        return (laid_out_like(images(grad_x), x), laid_out_like(images(grad_weight), weight), grad_bias,
                laid_out_like(images(grad_scale), scale))
    return tuple(_residual_gradients((True, True, True, True), grad, x, weight, bias, scale, conv))


@_residual_backward_op.register_fake
def _residual_backward_fake(grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, conv: Tensor
                            ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight), bias.new_empty(bias.shape), torch.empty_like(scale)


def _residual_gradients(needed: tuple[bool, ...], grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor,
                        conv: Tensor) -> list[Any]:
    if scale.dim() == 2:
        grad_conv, grad_scale, grad_bias = modulate_backward(grad, conv, scale, bias)
    else:
        wide = wide_dtype(grad, conv, scale)
        scaled = grad.to(wide) * scale.to(wide)
        grad_conv, grad_bias = scaled.to(x.dtype), bias_gradient(scaled, bias)
        grad_scale = (grad.to(wide) * (conv.to(wide) + bias.to(wide)[:, None, None])).to(scale.dtype)
    return [laid_out_like(input_gradient(grad_conv, weight), x) if needed[0] else None,
            weight_gradient(grad_conv, x, weight) if needed[1] else None, grad_bias if needed[2] else None,
            laid_out_like(grad_scale, scale) if needed[3] else None]


def _residual_setup_context(ctx, inputs, output) -> None:
    remember(ctx)
    ctx.save_for_backward(*inputs[:4], output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # zeros for what has no gradient


def _residual_backward(ctx, grad: Tensor | None, _) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    needed = ctx.needs_input_grad[:4]
    with recalled(ctx):
        if all(needed):
            return *_residual_backward_op(grad, *ctx.saved_tensors), grad, None
        return *_residual_gradients(needed, grad, *ctx.saved_tensors), grad, None


_residual_op.register_autograd(_residual_backward, setup_context=_residual_setup_context)


def _per_pixel(scale: Tensor) -> Tensor:
    return scale[:, :, None, None] if scale.dim() == 2 else scale


def conv3x3_bias_lrelu(x: Tensor, weight: Tensor, bias: Tensor, slope: float = 0.2) -> Tensor:
    """Leaky ReLU of ``conv(x) + bias``: the first half of a block (v2: arXiv 2105.06878, fig. 4).

    ``slope=1`` leaves the convolution alone. Differentiable, once, in every tensor. Sums, bias and leaky ReLU are
    in float32. Float32 products are rounded to TensorFloat-32 where
    ``torch.backends.cudnn.conv.fp32_precision == "tf32"`` (PyTorch's default for convolutions, also known as
    ``torch.backends.cudnn.allow_tf32``). Under autocast ``x`` and ``weight`` are taken in its dtype.

    The extension takes float32 with C = 16, 32, 48, 64 or 80 (Winograd's F(4x4, 3x3): Lavin and Gray, arXiv
    1509.09308). The root mean square of its error is at most 2e-6 of the result's: about twice that of PyTorch's
    convolutions, for the weight's gradient about the same. Results and gradients have the same bits each time, for any
    number of threads. Where the result is not finite, neither are pixels up to 3 further. Weights are transformed
    in every call, forward and backward.

    Args:
        x: (B, C, H, W) floating point. Kernels work in channels_last and copies what lies otherwise.
        weight: (C, C, 3, 3), dtype and device of ``x``; best in channels_last too, which is used where it lies.
        bias: (C,) floating point.
        slope: for negative values, 0 or more.

    Returns:
        (B, C, H, W), dtype and layout of ``x``.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    x, weight = in_autocast_dtype(x, weight)
    check(x, {"weight": weight}, {"bias": bias})
    if not slope >= 0:
        raise ValueError(f"slope={slope!r}: expected 0 or more, so that the result tells the sign of its input")
    return _lrelu_op(x, weight, bias, float(slope))


def conv3x3_scale_residual(x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, residual: Tensor) -> Tensor:
    """``residual + scale * (conv(x) + bias)``: the second half of a block (v2: arXiv 2105.06878, fig. 4).

    Differentiable, once, in every argument; then ``conv(x)`` is stored too. Precision and autocast: as
    ``conv3x3_bias_lrelu``.

    Args:
        x: (B, C, H, W) floating point. Kernels work in channels_last and copies what lies otherwise.
        weight: (C, C, 3, 3), dtype and device of ``x``; best in channels_last too, which is used where it lies.
        bias: (C,) floating point.
        scale: (B, C), one value an image and channel, or (B, C, H, W), one a pixel too; floating point.
        residual: (B, C, H, W) floating point; its dtype may be another.

    Returns:
        (B, C, H, W), dtype and layout of ``residual``.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    x, weight = in_autocast_dtype(x, weight)
    check(x, {"weight": weight}, {"bias": bias}, scale, residual)
    return _residual_op(x, weight, bias, scale, residual, learning(x, weight, bias, scale, residual))[0]


def learning(*tensors: Tensor) -> bool:
    """Whether a gradient will be asked for."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def in_autocast_dtype(*tensors: Tensor) -> list[Tensor]:
    """The tensors as autocast hands them to PyTorch's own convolutions."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    return [tensor if tensor.dtype == torch.float64 else tensor.to(dtype) for tensor in tensors]


def check(x: Tensor, weights: dict[str, Tensor], biases: dict[str, Tensor], scale: Tensor | None = None,
          residual: Tensor | None = None) -> None:
    """That everything fits ``x``; the dictionaries are by argument's name."""
    if x.dim() != 4:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected (B, C, H, W): add a batch dimension with x[None]")
    shape, channels = tuple(x.shape), x.shape[1]
    fits: dict[str, tuple[Tensor, tuple[tuple[int, ...], ...]]] = {"x": (x, (shape,))}
    fits.update((name, (weight, ((channels, channels, 3, 3),))) for name, weight in weights.items())
    fits.update((name, (bias, ((channels,),))) for name, bias in biases.items())
    if scale is not None:
        fits["scale"] = scale, (shape[:2], shape)
    if residual is not None:
        fits["residual"] = residual, (shape,)
    for name, (tensor, shapes) in fits.items():
        if tuple(tensor.shape) not in shapes:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {' or '.join(map(str, shapes))} to go "
                             f"with x {shape}: reshape or expand it")
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device} and x on {x.device}, expected the same: "
                             f"{name}.to(x.device)")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}, expected floating point: convert it with .float()")
        if name in weights and tensor.dtype != x.dtype:
            raise ValueError(f"{name} is {tensor.dtype} and x {x.dtype}, expected the same: {name}.to(x.dtype)")
