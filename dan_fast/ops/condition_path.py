"""The condition's path through the Restorer of v2: from the code to the modulation f2 of every block.

It never sees the image, so it is a chain of small matrix-vector products, the same for all pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import check_groups, check_tensors
from .backend import choose, recalled, remember
from .layout import SLOPE, wide_dtype

NAME = "condition_path"
HAS = ("torch", "triton")
TRITON_CHANNELS = (16, 32, 64)


class ConditionWeights(NamedTuple):
    """The arguments of ``condition_path`` after the code: weights of c -> C and of N blocks, all (out, in)."""

    head_weight: Tensor
    head_bias: Tensor
    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    blocks: int
    group_residual: str


def condition_path_ref(code: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor,
                       weight2: Tensor, bias2: Tensor, blocks: int, group_residual: str) -> Tensor:
    """The reference of the operator, in plain PyTorch; same arguments as ``condition_path``."""
    tensors = (code, head_weight, head_bias, weight1, bias1, weight2, bias2)
    return _forward_ref(*tensors, blocks, group_residual)[0]


def _forward_ref(code: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor,
                 weight2: Tensor, bias2: Tensor, blocks: int, group_residual: str
                 ) -> tuple[Tensor, Tensor, Tensor]:
    """For every block f2, the z that it gets and its activated hidden layer, (B, N, C) each."""
    wide = wide_dtype(code, head_weight, weight1, weight2)
    w1, b1, w2, b2 = (tensor.to(wide) for tensor in (weight1, bias1, weight2, bias2))
    z = z_in = F.linear(code.to(wide), head_weight.to(wide), head_bias.to(wide))
    modulation, inputs, hidden = [], [], []
    for n in range(len(w1)):
        inputs.append(z)
        hidden.append(F.leaky_relu(F.linear(z, w1[n], b1[n]), SLOPE))
        f2 = F.linear(hidden[-1], w2[n], b2[n])
        modulation.append(f2)
        z = z + f2
        if n % blocks == blocks - 1:
            z = z_in = 2 * z if group_residual == "doubled" else z_in + z
    return torch.stack(modulation, 1), torch.stack(inputs, 1), torch.stack(hidden, 1)


def _backward_ref(grad: Tensor, hidden: Tensor, weight1: Tensor, weight2: Tensor, blocks: int, group_residual: str
                  ) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of f2 and of the linear hidden layer of every block, and of the head's output.

    ``g`` is the gradient of z behind a block, then before it.
    """
    wide = grad.dtype
    g = g_in = torch.zeros_like(grad[:, 0])
    grad_f2, grad_linear = torch.empty_like(grad), torch.empty_like(grad)
    doubled = group_residual == "doubled"
    for n in reversed(range(grad.shape[1])):
        if n % blocks == blocks - 1:
            g, g_in = (2 * g, g) if doubled else (g, g)
        f = g + grad[:, n]
        h = f @ weight2[n].to(wide)
        h = torch.where(hidden[:, n] > 0, h, SLOPE * h)
        g = g + h @ weight1[n].to(wide)
        grad_f2[:, n], grad_linear[:, n] = f, h
        if n % blocks == 0 and not doubled:
            g = g + g_in
    return grad_f2, grad_linear, g


def condition_path_refusal(channels: int) -> str:
    """Why there is no GPU kernel for this number of channels; empty if there is one."""
    if channels in TRITON_CHANNELS:
        return ""
    return f"C is {channels} and the kernels are for {', '.join(map(str, TRITON_CHANNELS))}"


@torch.library.custom_op(f"dan_fast::{NAME}", mutates_args=())
def _op(code: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor,
        bias2: Tensor, blocks: int, group_residual: str) -> tuple[Tensor, Tensor, Tensor]:
    arguments = (code, head_weight, head_bias, weight1, bias1, weight2, bias2)
    if choose(NAME, HAS, *arguments, triton_refuses=condition_path_refusal(weight1.shape[1])) == "triton":
        from dan_fast_kernels import condition_path as kernels

        return kernels.forward(*arguments, blocks, group_residual)
    with torch.autocast(code.device.type, enabled=False):
        return _forward_ref(*arguments, blocks, group_residual)


@_op.register_fake
def _fake(code, head_weight, head_bias, weight1, bias1, weight2, bias2, blocks, group_residual):
    shape = (code.shape[0], weight1.shape[0], weight1.shape[1])
    return tuple(code.new_empty(shape, dtype=wide_dtype(code, head_weight, weight1, weight2)) for _ in range(3))


@torch.library.custom_op(f"dan_fast::{NAME}_backward", mutates_args=())
def condition_path_backward(grad: Tensor, hidden: Tensor, weight1: Tensor, weight2: Tensor, blocks: int,
                            group_residual: str) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of f2 and of the linear hidden layer of every block, (B, N, C), and of the head's output, (B, C).

    This is the sequential part; the gradients of the weights are batched products of its results.
    """
    refusal = condition_path_refusal(weight1.shape[1])
    if choose(NAME, HAS, grad, weight1, weight2, triton_refuses=refusal) == "triton":
        from dan_fast_kernels import condition_path as kernels

        return kernels.backward(grad, hidden, weight1, weight2, blocks, group_residual)
    with torch.autocast(grad.device.type, enabled=False):
        return _backward_ref(grad.contiguous(), hidden, weight1, weight2, blocks, group_residual)


@condition_path_backward.register_fake
def _backward_fake(grad, hidden, weight1, weight2, blocks, group_residual):
    return hidden.new_empty(hidden.shape), hidden.new_empty(hidden.shape), hidden.new_empty(hidden[:, 0].shape)


def _setup_context(ctx, inputs, output) -> None:
    code, head_weight, head_bias, weight1, bias1, weight2, bias2, ctx.blocks, ctx.group_residual = inputs
    _, z_inputs, hidden = output
    remember(ctx)
    ctx.mark_non_differentiable(z_inputs, hidden)
    ctx.bias_dtypes = (head_bias.dtype, bias1.dtype, bias2.dtype)
    ctx.save_for_backward(code, head_weight, weight1, weight2, z_inputs, hidden)


def _backward(ctx, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    code, head_weight, weight1, weight2, z_inputs, hidden = ctx.saved_tensors
    with recalled(ctx):
        f, h, head = condition_path_backward(grad, hidden, weight1, weight2, ctx.blocks, ctx.group_residual)

    def products(out: Tensor, into: Tensor) -> Tensor:
        """(B, N, out) and (B, N, in) to (N, out, in), summed over the batch."""
        return torch.bmm(out.permute(1, 2, 0), into.transpose(0, 1))

    wide = head.dtype
    with torch.autocast(grad.device.type, enabled=False):
        makers = (
            lambda: (head @ head_weight.to(wide)).to(code.dtype),
            lambda: (head.T @ code.to(wide)).to(head_weight.dtype),
            lambda: head.sum(0).to(ctx.bias_dtypes[0]),
            lambda: products(h, z_inputs).to(weight1.dtype),
            lambda: h.sum(0).to(ctx.bias_dtypes[1]),
            lambda: products(f, hidden).to(weight2.dtype),
            lambda: f.sum(0).to(ctx.bias_dtypes[2]),
        )
        grads = [make() if needed else None for make, needed in zip(makers, ctx.needs_input_grad, strict=False)]
    return *grads, None, None


_op.register_autograd(_backward, setup_context=_setup_context)


def condition_path(code: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor,
                   weight2: Tensor, bias2: Tensor, blocks: int, group_residual: str) -> Tensor:
    """The modulation f2 of every block (v2: arXiv 2105.06878, section 3.3): the z-path of ``RestorerV2``.

    ``z = head(code)``; a block computes ``f2 = W2 lrelu0.2(W1 z + b1) + b2`` and ``z <- z + f2``; at its end a group
    doubles z (``"doubled"``) or adds the z of its start (``"plain"``). Differentiable, once, in every tensor.
    Computed in float32 whatever the dtypes are; in float64 where one argument has it.
    ``condition_path(code, *condition_weights(restorer))`` is the path of a Restorer.

    Args:
        code: (B, c) floating point, the reduced kernels.
        head_weight, head_bias: (C, c) and (C,).
        weight1, bias1: (N, C, C) [out, in] and (N, C), the first layers of all N blocks in order. The GPU kernel takes
            C = 16, 32 and 64, and ``weight1`` without a copy if its memory is [in, out].
        weight2, bias2: (N, C, C) and (N, C), their second layers.
        blocks: number of blocks in a group; divides N.
        group_residual: ``"doubled"`` or ``"plain"``.

    Returns:
        (B, N, C), contiguous, float32 or float64.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    check_condition_path(code, head_weight, head_bias, weight1, bias1, weight2, bias2, blocks, group_residual)
    return _op(code, head_weight, head_bias, weight1, bias1, weight2, bias2, blocks, group_residual)[0]


def check_condition_path(code: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor,
                         weight2: Tensor, bias2: Tensor, blocks: int, group_residual: str) -> None:
    """Raises ``ValueError`` unless the arguments fit ``condition_path``."""
    square = ("N", "C", "C")
    sizes = check_tensors({"code": (code, ("B", "c")), "weight1": (weight1, square), "bias1": (bias1, ("N", "C")),
                           "weight2": (weight2, square), "bias2": (bias2, ("N", "C")),
                           "head_weight": (head_weight, ("C", "c")), "head_bias": (head_bias, ("C",))},
                          may_be_empty=True, advice="condition_weights(restorer) makes the weights")
    check_groups(blocks, sizes["N"], group_residual)
