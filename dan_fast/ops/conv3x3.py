"""Parts that the operators of 3x3 convolutions share: which backend computes them, and their dtypes under autocast.

Triton has GPU kernels for 16, 32 and 64 channels; on the CPU the compiled extension computes float32 with 16, 32, 48,
64 or 80 channels, forward and all gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .backend import choose
from .packing import cpp_refusal

HAS = ("torch", "cpp", "triton")
TRITON_CHANNELS = (16, 32, 64)


def triton_refusal(channels: int) -> str:
    """Why there is no GPU kernel for this number of channels; empty if there is one."""
    if channels in TRITON_CHANNELS:
        return ""
    return f"x has {channels} channels and the kernels are for {', '.join(map(str, TRITON_CHANNELS))}"


def chosen_for(op: str, x: Tensor, *others: Tensor | None) -> str:
    """The backend that computes ``op``, an operator that keeps the number of channels, for these arguments."""
    tensors = [x, *(tensor for tensor in others if tensor is not None)]
    return choose(op, HAS, *tensors, part="conv3x3", triton_refuses=triton_refusal(x.shape[1]),
                  cpp_refuses=cpp_refusal(x.shape[1], tensors))


def in_autocast_dtype(*tensors: Tensor) -> list[Tensor]:
    """The tensors as autocast hands them to PyTorch's own convolutions."""
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    return [tensor if tensor.dtype == torch.float64 else tensor.to(dtype) for tensor in tensors]
