"""Weights in the form of the extension, cached beside the parameters that they were made of; for inference.

On the CPU 3x3 convolutions take a quarter of the multiplications (Winograd's F(4x4, 3x3): Lavin and Gray,
arXiv 1509.09308). Their weights are transformed for that, to 4 times the memory, once.

The cache, not the plan, holds the result: operators choose their backend at each call, so the extension's form would
be a second set of arguments beside the weights that every other backend takes. To look the weights up costs 1.6 ms of
the 811 ms of one 64x64 image by the published v2 (12 calls, one thread), and 0.6 of 71 ms by ``v2-0.3M-x4``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary, WeakTensorKeyDictionary

from .arguments import flattened

PANEL = 16  # the extension takes numbers of channels that are multiples of it
MOST_CHANNELS = 80


class _Packed(NamedTuple):
    """Packed weights, the function that packed them, and the state of the parameters at that time.

    ``sources`` share the memory of the parameters, so that no other tensor can take it.
    """

    result: Any
    pack: Callable
    sources: list[Tensor]
    versions: list[int]

    def is_current(self, pack: Callable, parameters: Sequence[Tensor]) -> bool:
        """Whether ``pack`` would make the same of ``parameters`` again."""
        return pack is self.pack and len(parameters) == len(self.sources) and all(
            parameter.data_ptr() == source.data_ptr() and parameter.stride() == source.stride()
            and parameter._version == version
            for parameter, source, version in zip(parameters, self.sources, self.versions, strict=True))


_packed: WeakIdKeyDictionary = WeakTensorKeyDictionary()  # by the first parameter


def packed(pack: Callable[..., Any], *lists: Sequence[Tensor]) -> Any:
    """``pack(*lists)`` from the cache, or computed again if a parameter was replaced or changed in place.

    Changes that PyTorch itself does not count go unnoticed: ``parameter.data.mul_(2)``, and the steps of fused
    optimisers (``Adam(fused=True)``): call ``torch.autograd.graph.increment_version(parameters)`` after these.
    Parameters that were made in inference mode, which do not count their changes, are packed at every call.
    """
    parameters = flattened(lists)
    tracked = not any(tensor.is_inference() for tensor in parameters)
    if tracked and (known := _packed.get(parameters[0])) is not None and known.is_current(pack, parameters):
        return known.result
    versions = [tensor._version for tensor in parameters] if tracked else []
    with torch.no_grad():
        result = pack(*lists)
    if tracked:
        _packed[parameters[0]] = _Packed(result, pack, [tensor.detach() for tensor in parameters], versions)
    return result


def pack_convolutions(*lists: Sequence[Tensor]) -> Tensor:
    """The extension's form of the 3x3 convolutions of N blocks, (N * convolutions, …), one block after the other.

    Args:
        lists: weights (O, I, 3, 3) and biases (O,) in turn, a list of N tensors for each convolution of a block;
            channels are filled up with zeros to multiples of 16.
    """
    weights, biases = (torch.stack([torch.stack(list(tensors)) for tensors in lists[kind::2]], 1).flatten(0, 1)
                       for kind in (0, 1))
    return torch.ops.dan_fast.pack_conv3x3(fill_up(fill_up(weights, 1), 2).contiguous(),
                                           fill_up(biases, 1).contiguous())


def fill_up(x: Tensor, dim: int) -> Tensor:
    """``x`` with zeros behind it along ``dim``, up to a multiple of ``PANEL``."""
    return F.pad(x, (0, 0) * (x.dim() - 1 - dim) + (0, -x.shape[dim] % PANEL))


def cpp_refusal(channels: int, tensors: Sequence[Tensor]) -> str:
    """Why the extension does not take images of ``channels`` channels, or these tensors; empty if it does."""
    if channels % PANEL or channels > MOST_CHANNELS:
        return f"C is {channels} and the extension takes multiples of {PANEL} up to {MOST_CHANNELS}"
    return float32_refusal(tensors)


def float32_refusal(tensors: Sequence[Tensor]) -> str:
    """Why the extension does not take tensors of these dtypes; empty if it does."""
    for tensor in tensors:
        if tensor.dtype != torch.float32:
            return f"an argument is {tensor.dtype} and the extension computes in float32"
    return ""
