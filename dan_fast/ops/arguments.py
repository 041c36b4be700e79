"""Checks of an operator's tensors, with messages that say what to do."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


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
