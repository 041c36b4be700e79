"""The condition's path through the Restorer of v2: from the code to the factors f2 of every block.

It never sees the image, so it is a chain of small matrix-vector products, the same for all pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import GROUP_RESIDUALS
from .backend import choose, recalled, remember
from .layout import wide_dtype

NAME = "dan_fast::condition_path"
HAS = ("torch", "triton")
TRITON_CHANNELS = (16, 32, 64)


class ConditionWeights(NamedTuple):
    """What ``condition_path`` takes after the code: weights of c -> C and of N blocks, all (out, in)."""

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
    """What the operator computes, in plain PyTorch; same arguments as ``condition_path``."""
    tensors = (code, head_weight, head_bias, weight1, bias1, weight2, bias2)
    return _forward_ref(*tensors, blocks, group_residual == "doubled")[0]


def _forward_ref(code: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor,
                 weight2: Tensor, bias2: Tensor, blocks: int, doubled: bool) -> tuple[Tensor, Tensor, Tensor]:
    """f2, z and the hidden layer of every block, (B, N, C) each."""
    wide = wide_dtype(code, head_weight, weight1, weight2)
    w1, b1, w2, b2 = (tensor.to(wide) for tensor in (weight1, bias1, weight2, bias2))
    z = z_in = F.linear(code.to(wide), head_weight.to(wide), head_bias.to(wide))
    scales, inputs, hidden = [], [], []
    for n in range(len(w1)):
        inputs.append(z)
        hidden.append(F.leaky_relu(F.linear(z, w1[n], b1[n]), 0.2))
        scales.append(F.linear(hidden[-1], w2[n], b2[n]))
        z = z + scales[-1]
        if n % blocks == blocks - 1:
            z = z_in = 2 * z if doubled else z_in + z
    return torch.stack(scales, 1), torch.stack(inputs, 1), torch.stack(hidden, 1)


def _backward_ref(grad: Tensor, hidden: Tensor, weight1: Tensor, weight2: Tensor, blocks: int, doubled: bool
                  ) -> tuple[Tensor, Tensor, Tensor]:
    """Of every block the gradients of f2 and of the hidden layer before its activation; of the head's output."""
    wide = grad.dtype
    g = g_in = torch.zeros_like(grad[:, 0])
    grad_scales, grad_hidden = torch.empty_like(grad), torch.empty_like(grad)
    for n in reversed(range(grad.shape[1])):
        if n % blocks == blocks - 1:
            g, g_in = (2 * g, g) if doubled else (g, g)
        f = g + grad[:, n]
        h = f @ weight2[n].to(wide)
        h = torch.where(hidden[:, n] > 0, h, 0.2 * h)
        g = g + h @ weight1[n].to(wide)
        grad_scales[:, n], grad_hidden[:, n] = f, h
        if n % blocks == 0 and not doubled:
            g = g + g_in
    return grad_scales, grad_hidden, g


def _refusal(channels: int) -> str:
    return "" if channels in TRITON_CHANNELS else f"C is {channels} and the kernel knows 16, 32 and 64"


@torch.library.custom_op(NAME, mutates_args=())
def _op(code: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor,
        bias2: Tensor, blocks: int, doubled: bool) -> tuple[Tensor, Tensor, Tensor]:
    arguments = (code, head_weight, head_bias, weight1, bias1, weight2, bias2)
    if choose("condition_path", HAS, *arguments, triton_refuses=_refusal(weight1.shape[1])) == "triton":
        from dan_fast_kernels import condition_path as kernels

        return kernels.forward(*arguments, blocks, doubled)
    with torch.autocast(code.device.type, enabled=False):
        return _forward_ref(*arguments, blocks, doubled)


@_op.register_fake
def _fake(code, head_weight, head_bias, weight1, bias1, weight2, bias2, blocks, doubled):
    shape = (code.shape[0], weight1.shape[0], weight1.shape[1])
    return tuple(code.new_empty(shape, dtype=wide_dtype(code, head_weight, weight1, weight2)) for _ in range(3))


@torch.library.custom_op(f"{NAME}_backward", mutates_args=())
def _backward_op(grad: Tensor, hidden: Tensor, weight1: Tensor, weight2: Tensor, blocks: int, doubled: bool
                 ) -> tuple[Tensor, Tensor, Tensor]:
    """The sequential part, see ``_backward_ref``; the gradients of the weights are batched products of it."""
    refusal = _refusal(weight1.shape[1])
    if choose("condition_path", HAS, grad, weight1, weight2, triton_refuses=refusal) == "triton":
        from dan_fast_kernels import condition_path as kernels

        return kernels.backward(grad, hidden, weight1, weight2, blocks, doubled)
    with torch.autocast(grad.device.type, enabled=False):
        return _backward_ref(grad.contiguous(), hidden, weight1, weight2, blocks, doubled)


@_backward_op.register_fake
def _backward_fake(grad, hidden, weight1, weight2, blocks, doubled):
    return hidden.new_empty(hidden.shape), hidden.new_empty(hidden.shape), hidden.new_empty(hidden[:, 0].shape)


def _setup_context(ctx, inputs, output) -> None:
    code, head_weight, head_bias, weight1, bias1, weight2, bias2, ctx.blocks, ctx.doubled = inputs
    _, path, hidden = output
    remember(ctx)
    ctx.mark_non_differentiable(path, hidden)
    ctx.bias_dtypes = (head_bias.dtype, bias1.dtype, bias2.dtype)
    ctx.save_for_backward(code, head_weight, weight1, weight2, path, hidden)


def _backward(ctx, grad: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    code, head_weight, weight1, weight2, path, hidden = ctx.saved_tensors
    with recalled(ctx):
        f, h, head = _backward_op(grad, hidden, weight1, weight2, ctx.blocks, ctx.doubled)

    def products(out: Tensor, into: Tensor) -> Tensor:
        """(B, N, out), (B, N, in) -> (N, out, in): summed over the batch."""
        return torch.bmm(out.permute(1, 2, 0), into.transpose(0, 1))

    wide = head.dtype
    with torch.autocast(grad.device.type, enabled=False):
        makers = (
            lambda: (head @ head_weight.to(wide)).to(code.dtype),
            lambda: (head.T @ code.to(wide)).to(head_weight.dtype),
            lambda: head.sum(0).to(ctx.bias_dtypes[0]),
            lambda: products(h, path).to(weight1.dtype),
            lambda: h.sum(0).to(ctx.bias_dtypes[1]),
            lambda: products(f, hidden).to(weight2.dtype),
            lambda: f.sum(0).to(ctx.bias_dtypes[2]),
        )
        grads = [make() if needed else None for make, needed in zip(makers, ctx.needs_input_grad, strict=False)]
    return *grads, None, None


_op.register_autograd(_backward, setup_context=_setup_context)


def condition_path(code: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor,
                   weight2: Tensor, bias2: Tensor, blocks: int, group_residual: str) -> Tensor:
    """The factors f2 of every block (v2: arXiv 2105.06878, section 3.3): the z-path of ``RestorerV2``.

    ``z = head(code)``; a block computes ``f2 = W2 lrelu0.2(W1 z + b1) + b2`` and ``z <- z + f2``; at its end a group
    doubles z (``"doubled"``) or adds what z was at its start (``"plain"``). Differentiable, once, in every tensor.
    Computed in float32 whatever the dtypes are; in float64 where one argument has it.
    ``condition_path(code, *condition_weights(restorer))`` is the path of a Restorer.

    Args:
        code: (B, c) floating point, the reduced kernels.
        head_weight, head_bias: (C, c) and (C,).
        weight1, bias1, weight2, bias2: (N, C, C) [out, in] and (N, C), twice: those of all N blocks in order.
            Triton's kernel takes C = 16, 32 and 64, and ``weight1`` without a copy if its memory is [in, out].
        blocks: of a group; divides N.
        group_residual: ``"doubled"`` or ``"plain"``.

    Returns:
        (B, N, C), contiguous, float32 or float64.

    Raises:
        ValueError: an argument does not fit; the message says what to do.
    """
    arguments = {"code": code, "head_weight": head_weight, "head_bias": head_bias, "weight1": weight1, "bias1": bias1,
                 "weight2": weight2, "bias2": bias2}
    _check(arguments, blocks, group_residual)
    return _op(*arguments.values(), blocks, group_residual == "doubled")[0]


def _check(arguments: dict[str, Tensor], blocks: int, group_residual: str) -> None:
    code, weight1 = arguments["code"], arguments["weight1"]
    for name, tensor, dimensions in (("code", code, "(B, c)"), ("weight1", weight1, "(N, C, C)")):
        if tensor.dim() != dimensions.count(",") + 1:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {dimensions}")
    count, channels = weight1.shape[:2]
    length = code.shape[1]
    shapes = {"head_weight": (channels, length), "head_bias": (channels,), "weight1": (count, channels, channels),
              "bias1": (count, channels), "weight2": (count, channels, channels), "bias2": (count, channels)}
    for name, shape in shapes.items():
        if tuple(arguments[name].shape) != shape:
            raise ValueError(f"{name} has shape {tuple(arguments[name].shape)}, expected {shape}: c={length} from "
                             f"code, N={count} and C={channels} from weight1; condition_weights(restorer) makes them")
    for name, tensor in arguments.items():
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}, expected floating point: convert it with .float()")
        if tensor.device != code.device:
            raise ValueError(f"{name} is on {tensor.device} and code on {code.device}, expected the same: "
                             f"{name}.to(code.device)")
    if type(blocks) is not int or blocks < 1 or count % blocks or not count:
        raise ValueError(f"blocks={blocks!r}: expected a whole number that divides the N={count} blocks of weight1")
    if group_residual not in GROUP_RESIDUALS:
        raise ValueError(f"group_residual={group_residual!r}: expected one of {', '.join(map(repr, GROUP_RESIDUALS))}")
