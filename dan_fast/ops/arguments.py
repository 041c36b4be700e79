"""Checks of an operator's tensors, with messages that say what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..config import GROUP_RESIDUALS

Shape = tuple[int | str, ...]


def check_tensors(expected: Mapping[str, tuple[Tensor, tuple[int, ...]]], shapes_from: str) -> None:
    """Raises ``ValueError`` unless every tensor has its shape, is floating point, and all are on one device.

    Args:
        expected: by name the tensor and its shape; the first tensor's device is what the others must have.
        shapes_from: where the sizes come from, for the message.
    """
    home, (main, _) = next(iter(expected.items()))
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}: {shapes_from}")
        if not tensor.is_floating_point():
            raise ValueError(f"{name} is {tensor.dtype}, expected floating point: convert it with .float()")
        if tensor.device != main.device:
            raise ValueError(f"{name} is on {tensor.device} and {home} on {main.device}, expected the same: "
                             f"{name}.to({home}.device)")


def check_dimensions(name: str, tensor: Tensor, dimensions: str) -> None:
    """Raises ``ValueError`` unless ``tensor`` has as many dimensions as ``dimensions``, such as ``"(B, C, H, W)"``."""
    if tensor.dim() != dimensions.count(",") + 1:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {dimensions}")


def check_blocks(op: str, tensors: Mapping[str, tuple[Tensor, Shape]], weights: Mapping[str, tuple[Sequence[Tensor],
                 Shape]], made_by: str, any_dtype: Sequence[str] = ()) -> dict[str, int]:
    """Raises ``ValueError`` unless everything fits an operator of N blocks that is for inference.

    Args:
        op: its name; ``<op>_ref`` has a gradient.
        tensors: by name the tensor and its shape, in which a letter is any size of at least 1, always the same. The
            first tensor's device and dtype is what all must have.
        weights: by name a list of N tensors, one for each block, and the shape of each.
        made_by: the call that makes right weights.
        any_dtype: names of those that may be of another floating point type.

    Returns:
        The sizes by letter, and ``"N"``.
    """
    count = len(next(iter(weights.values()))[0])
    sizes = {"N": count}
    home, (main, _) = next(iter(tensors.items()))
    every = [(name, name, tensor, shape) for name, (tensor, shape) in tensors.items()]
    for name, (given, shape) in weights.items():
        if len(given) != count or not count:
            raise ValueError(f"{name} has {len(given)} tensors for {count} blocks, expected one for each, at least 1")
        every += [(name, f"{name}[{n}]", tensor, shape) for n, tensor in enumerate(given)]
    for name, title, tensor, shape in every:
        if tensor.dim() == len(shape) and 0 not in tensor.shape:
            for letter, size in zip(shape, tensor.shape, strict=True):
                if isinstance(letter, str):
                    sizes.setdefault(letter, size)
        expected = tuple(sizes.get(size, size) if isinstance(size, str) else size for size in shape)
        if tuple(tensor.shape) != expected:
            raise ValueError(f"{title} has shape {tuple(tensor.shape)}, expected ({', '.join(map(str, expected))}"
                             f"{',' * (len(expected) == 1)}), none of them 0, "
                             f"with {', '.join(f'{letter}={size}' for letter, size in sizes.items())}; "
                             f"{made_by} makes weights")
        if not tensor.is_floating_point() or (tensor.dtype != main.dtype and name not in any_dtype):
            raise ValueError(f"{title} is {tensor.dtype} and {home} {main.dtype}, expected one floating point type: "
                             "convert it")
        if tensor.device != main.device:
            raise ValueError(f"{title} is on {tensor.device} and {home} on {main.device}, expected the same: "
                             f"move it to {main.device}")
    if torch.is_grad_enabled() and any(tensor.requires_grad for _, _, tensor, _ in every):
        raise ValueError(f"{op} has no gradient and an argument requires one: call it under torch.no_grad() or "
                         f"torch.inference_mode(), or take {op}_ref")
    return sizes


def check_group_residual(value: str) -> None:
    """Raises ``ValueError`` unless it is one that a config may have."""
    if value not in GROUP_RESIDUALS:
        raise ValueError(f"group_residual={value!r}: expected one of {', '.join(map(repr, GROUP_RESIDUALS))}")
