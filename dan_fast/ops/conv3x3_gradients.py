"""The gradients of a 3x3 convolution that keeps grid and number of channels, each an operator of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from .conv3x3 import chosen_for
from .layout import laid_out_like, to_nchw, to_nhwc, wide_dtype


@torch.library.custom_op("dan_fast::conv3x3_input_gradient", mutates_args=())
def input_gradient(grad: Tensor, weight: Tensor, activated: Tensor | None = None, slope: float = 0.0,
                   add: Tensor | None = None) -> Tensor:
    """Gradient of the convolution's input from ``grad``, that of its output; same shape and dtype as ``grad``.

    Args:
        activated: the input, if it is the output of a leaky ReLU with ``slope``: then the gradient of the leaky
            ReLU's own input is returned.
        add: is added to the gradient; ignored with ``activated``.
    """
    chosen = chosen_for("conv3x3_input_gradient", grad, weight, activated, add)
    if chosen == "triton":
        from dan_fast_kernels import conv3x3 as kernels

        return laid_out_like(kernels.input_gradient(grad, weight, activated, slope, add), grad)
    if chosen == "cpp":
        found = torch.ops.dan_fast.conv3x3_input_gradient_cpp(
            to_nhwc(grad), weight, None if activated is None else to_nhwc(activated), slope,
            None if activated is not None or add is None else to_nhwc(add))
        return laid_out_like(to_nchw(found), grad)
    found, _, _ = _convolution_backward(grad, grad, weight, [True, False, False])
    if activated is not None:
        found = torch.ops.aten.leaky_relu_backward(found, activated, slope, True)
    elif add is not None:
        found = (found.to(wide_dtype(found, add)) + add).to(grad.dtype)
    return laid_out_like(found, grad)


@input_gradient.register_fake
def _input_gradient_fake(grad, weight, activated=None, slope=0.0, add=None):
    return torch.empty_like(grad)


@torch.library.custom_op("dan_fast::conv3x3_activation_gradient", mutates_args=())
def activation_gradient(grad: Tensor, weight: Tensor, activated: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """``input_gradient`` with ``activated``, and its sum over images and pixels, (C,): the gradient of the bias there.

    Triton adds up the values in registers, before they are rounded, in float32, always in the same order.
    """
    if chosen_for("conv3x3_input_gradient", grad, weight, activated) == "triton":
        from dan_fast_kernels import conv3x3 as kernels

        found, total = kernels.activation_gradient(grad, weight, activated, slope)
        return laid_out_like(found, grad), total
    found = input_gradient(grad, weight, activated, slope)
    return found, found.sum((0, 2, 3), dtype=wide_dtype(found))


@activation_gradient.register_fake
def _activation_gradient_fake(grad, weight, activated, slope):
    return torch.empty_like(grad), grad.new_empty(grad.shape[1], dtype=wide_dtype(grad))


@torch.library.custom_op("dan_fast::conv3x3_weight_gradient", mutates_args=())
def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Gradient of the convolution's weight from ``grad``, that of its output for ``x``; laid out like ``weight``.

    On a GPU it is PyTorch's (cuDNN's): it is bound by arithmetic and has no epilogue to fuse. The extension sums in
    Winograd's domain, in parts that do not depend on the number of threads.
    """
    if chosen_for("conv3x3_weight_gradient", grad, x, weight) == "cpp":
        found = to_nchw(torch.ops.dan_fast.conv3x3_weight_gradient_cpp(to_nhwc(grad), to_nhwc(x)))
    else:
        found = _convolution_backward(grad, x, weight, [False, True, False])[1]
    return laid_out_like(found, weight)


@weight_gradient.register_fake
def _weight_gradient_fake(grad, x, weight):
    return torch.empty_like(weight)


def bias_gradient(grad: Tensor, bias: Tensor) -> Tensor:
    """Gradient of the convolution's bias: the sum over images and pixels, always in the same order."""
    return grad.sum((0, 2, 3), dtype=wide_dtype(grad)).to(bias.dtype)


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, which: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ops.aten.convolution_backward(grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, which)
