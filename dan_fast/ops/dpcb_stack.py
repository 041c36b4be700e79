"""The image's path through dual-path blocks whose factors are known: the body of v2's Restorer, for inference.

On the CPU the compiled extension computes 3x3 convolutions with a quarter of the multiplications (Winograd's
F(4x4, 3x3): Lavin and Gray, arXiv 1509.09308). Its weights are packed for that once. On a GPU a block is the two
kernels of ``conv3x3``, and a group that doubles its result needs no pass of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary, WeakTensorKeyDictionary

from ..config import GROUP_RESIDUALS
from .backend import choose
from .conv3x3 import triton_refusal
from .dpcb import SLOPE, dpcb_ref

if TYPE_CHECKING:
    from ..model.restorer import RestorerV2

NAME = "dan_fast::dpcb_stack"
HAS = ("torch", "cpp", "triton")
CPP_CHANNELS = (16, 32, 64)


class DPCBWeights(NamedTuple):
    """The image's convolutions of N blocks in order, and how the blocks are grouped.

    Attributes:
        weight1, bias1, weight2, bias2: of each block's first and second convolution, (C, C, 3, 3) and (C,).
        blocks: of a group; divides N.
        group_residual: ``"doubled"`` or ``"plain"``.
    """

    weight1: list[Tensor]
    bias1: list[Tensor]
    weight2: list[Tensor]
    bias2: list[Tensor]
    blocks: int
    group_residual: str


def dpcb_weights(restorer: RestorerV2) -> DPCBWeights:
    """The weights of a Restorer's body: its own parameters, not copies."""
    groups: Any = restorer.body  # torch declares parts of a module as anything
    blocks = [block for group in groups for block in group.body]
    first, second = ([block.body1[layer] for block in blocks] for layer in (0, 2))
    return DPCBWeights([conv.weight for conv in first], [conv.bias for conv in first],
                       [conv.weight for conv in second], [conv.bias for conv in second],
                       len(groups[0].body), groups[0].residual)


def dpcb_stack_ref(x: Tensor, weights: DPCBWeights, scales: Tensor) -> Tensor:
    """What the operator computes, in plain PyTorch; same arguments as ``dpcb_stack``. Differentiable."""
    return _forward_ref(x, scales, *weights[:5], weights.group_residual == "doubled")


def _forward_ref(x: Tensor, scales: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor],
                 weight2: Sequence[Tensor], bias2: Sequence[Tensor], blocks: int, doubled: bool) -> Tensor:
    entry = x
    for n in range(len(weight1)):
        x = dpcb_ref(x, weight1[n], bias1[n], weight2[n], bias2[n], scales[:, n])
        if n % blocks == blocks - 1:
            x = entry = 2 * x if doubled else entry + x
    return x


def _forward_triton(x: Tensor, scales: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor],
                    weight2: Sequence[Tensor], bias2: Sequence[Tensor], blocks: int, doubled: bool) -> Tensor:
    from dan_fast_kernels import conv3x3 as kernels

    entry = x = x.contiguous(memory_format=torch.channels_last)
    by_block = scales.transpose(0, 1).contiguous()
    for n in range(len(weight1)):
        last = n % blocks == blocks - 1
        t = kernels.bias_lrelu(x, weight1[n], bias1[n], SLOPE)
        x, _ = kernels.scale_residual(t, weight2[n], bias2[n], by_block[n], x, factor=2.0 if last and doubled else 1.0)
        if last and not doubled:
            x = entry = entry + x
    return x


class _Packed(NamedTuple):
    """Packed weights, and of which state of which parameters.

    ``sources`` share the memory of the parameters, so that no other tensor can come to lie there.
    """

    weights: Tensor
    sources: list[Tensor]
    versions: list[int]

    def is_of(self, parameters: Sequence[Tensor]) -> bool:
        return len(parameters) == len(self.sources) and all(
            parameter.data_ptr() == source.data_ptr() and parameter.stride() == source.stride()
            and parameter._version == version
            for parameter, source, version in zip(parameters, self.sources, self.versions, strict=True))


_packed: WeakIdKeyDictionary = WeakTensorKeyDictionary()  # by the first block's first weight


def _pack(*lists: Sequence[Tensor]) -> Tensor:
    """The weights as the extension wants them, packed again if a parameter was replaced or changed."""
    parameters = [tensor for tensors in lists for tensor in tensors]
    # Tensors made in inference mode do not count their changes.
    tracked = not any(tensor.is_inference() for tensor in parameters)
    if tracked and (known := _packed.get(parameters[0])) is not None and known.is_of(parameters):
        return known.weights
    versions = [tensor._version for tensor in parameters] if tracked else []
    packed = torch.ops.dan_fast.pack_dpcb_stack(
        *(torch.stack([tensor.detach() for tensor in tensors]).contiguous() for tensors in lists))
    if tracked:
        _packed[parameters[0]] = _Packed(packed, [tensor.detach() for tensor in parameters], versions)
    return packed


@torch.library.custom_op(NAME, mutates_args=())
def _op(x: Tensor, scales: Tensor, weight1: Sequence[Tensor], bias1: Sequence[Tensor], weight2: Sequence[Tensor],
        bias2: Sequence[Tensor], blocks: int, doubled: bool) -> Tensor:
    tensors = (x, scales, *weight1, *bias1, *weight2, *bias2)
    chosen = choose("dpcb_stack", HAS, *tensors, cpp_refuses=_refusal(tensors),
                    triton_refuses=triton_refusal(x.shape[1]))
    if chosen == "triton":
        return _forward_triton(x, scales, weight1, bias1, weight2, bias2, blocks, doubled)
    if chosen == "cpp":
        # A view of channels_last memory, without a copy.
        pixels = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        packed = _pack(weight1, bias1, weight2, bias2)
        out = torch.ops.dan_fast.dpcb_stack_cpp(pixels, packed, scales.contiguous(), blocks, doubled)
        return out.permute(0, 3, 1, 2)
    with torch.autocast(x.device.type, enabled=False):
        out = _forward_ref(x, scales, weight1, bias1, weight2, bias2, blocks, doubled)
    return out.contiguous(memory_format=torch.channels_last)


@_op.register_fake
def _fake(x, scales, weight1, bias1, weight2, bias2, blocks, doubled):
    batch, channels, height, width = x.shape
    return x.new_empty(batch, height, width, channels).permute(0, 3, 1, 2)


def _refusal(tensors: Sequence[Tensor]) -> str:
    channels = tensors[0].shape[1]
    if channels not in CPP_CHANNELS:
        return f"C is {channels} and the extension knows 16, 32 and 64"
    for tensor in tensors:
        if tensor.dtype != torch.float32:
            return f"an argument is {tensor.dtype} and the extension computes in float32"
    return ""


def dpcb_stack(x: Tensor, weights: DPCBWeights, scales: Tensor) -> Tensor:
    """Dual-path blocks in groups, with given factors (v2: arXiv 2105.06878, section 3.3, fig. 4). For inference.

    A block computes ``x <- x + scale * (W2 * lrelu0.2(W1 * x + b1) + b2)``, * a 3x3 convolution with zero padding; at
    its end a group doubles x (``"doubled"``) or adds what x was at its start (``"plain"``).
    ``dpcb_stack(restorer.head1(lr), dpcb_weights(restorer), condition_path(code, *condition_weights(restorer)))``
    is the body of a Restorer.

    Precision on a GPU: as ``conv3x3_bias_lrelu``; C = 16, 32 or 64 there.

    The extension takes float32 with C = 16, 32 or 64 and errs about 1.6 times as much as PyTorch's convolutions; the
    result has the same bits for any number of threads. Where the result is not finite, neither are pixels up to 3
    further, as convolutions go on in tiles of 4x4. It packs the weights at the first call, 4 times their memory,
    and again when one was replaced or changed, in place or by an optimiser; a change behind PyTorch's back
    (``parameter.data.mul_(2)``) goes unnoticed. Parameters that were made in inference mode are packed at every call.

    Args:
        x: (B, C, H, W) floating point, B, H, W at least 1; copied if it is not channels_last.
        weights: of N blocks; ``dpcb_weights(restorer)`` makes them. Dtype and device of ``x``.
        scales: (B, N, C) floating point: the factors f2 of every image, block and channel, on the device of ``x``.

    Returns:
        (B, C, H, W), channels_last, dtype and device of ``x``.

    Raises:
        ValueError: an argument does not fit, or a gradient would be needed; the message says what to do.
    """
    _check(x, weights, scales)
    return _op(x, scales, *weights[:5], weights.group_residual == "doubled")


def _check(x: Tensor, weights: DPCBWeights, scales: Tensor) -> None:
    if x.dim() != 4 or 0 in x.shape:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected (B, C, H, W), none of them 0")
    batch, channels = x.shape[:2]
    count = len(weights.weight1)
    convolution = (channels, channels, 3, 3)
    tensors: list[tuple[str, Tensor, tuple[int, ...]]] = [
        ("x", x, tuple(x.shape)), ("scales", scales, (batch, count, channels))]
    for name, own in (("weight1", convolution), ("bias1", (channels,)), ("weight2", convolution),
                      ("bias2", (channels,))):
        given = getattr(weights, name)
        if len(given) != count or not count:
            raise ValueError(f"{name} has {len(given)} tensors for {count} blocks, expected one for each, at least 1")
        tensors += [(f"{name}[{n}]", tensor, own) for n, tensor in enumerate(given)]
    for name, tensor, shape in tensors:
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}: B={batch} and C={channels} "
                             f"from x, N={count} from weight1; dpcb_weights(restorer) makes weights")
        if not tensor.is_floating_point() or (tensor.dtype != x.dtype and name != "scales"):
            raise ValueError(f"{name} is {tensor.dtype} and x {x.dtype}, expected one floating point type: convert it")
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device} and x on {x.device}, expected the same: "
                             f"move it to {x.device}")
    if torch.is_grad_enabled() and any(tensor.requires_grad for _, tensor, _ in tensors):
        raise ValueError("dpcb_stack has no gradient and an argument requires one: call it under torch.no_grad() or "
                         "torch.inference_mode(), or take dpcb_stack_ref")
    blocks = weights.blocks
    if type(blocks) is not int or blocks < 1 or count % blocks:
        raise ValueError(f"blocks={blocks!r}: expected a whole number that divides the N={count} blocks")
    if weights.group_residual not in GROUP_RESIDUALS:
        raise ValueError(f"group_residual={weights.group_residual!r}: expected one of "
                         f"{', '.join(map(repr, GROUP_RESIDUALS))}")
