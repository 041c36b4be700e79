"""All parameters of a network in one vector, and all gradients in another.

What a step does to all parameters (norm, Adam, average, sum over GPUs) is then one operation on one tensor instead of
hundreds of operations on small ones.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..fast_model.image_weights import replace_parameter

# In elements. Every parameter starts at a multiple of it, as vector loads need aligned addresses.
ALIGNMENT = 64


class FlatParameters:
    """Replaces the parameters of ``module`` by views of one vector with the same values.

    The weights of convolutions lie as channels_last. In the vectors the gaps between parameters are 0.

    Args:
        module: has parameters of one dtype on one device. Whatever refers to its old parameters, for example an
            optimiser, must be made again.
        gradients: also make a vector of gradients.
        extra: elements after the gradients, for values that are summed over processes along with them.

    Attributes:
        values: (n,) all parameters.
        gradients: (n,) all gradients, to which a backward pass adds; or None.
        shared: (n + extra,) the gradients and the extra elements; or None.
        starts: by name, where each parameter begins in the vectors.
    """

    def __init__(self, module: nn.Module, *, gradients: bool = True, extra: int = 0) -> None:
        parameters = dict(module.named_parameters())
        self.starts: dict[str, int] = {}
        end = 0
        for name, parameter in parameters.items():
            self.starts[name] = end
            end += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
        like = next(iter(parameters.values())).detach()
        self.values = like.new_zeros(end)
        self.shared = like.new_zeros(end + extra) if gradients else None
        self.gradients = None if self.shared is None else self.shared[:end]
        for name, old in parameters.items():
            new = nn.Parameter(parameter_view(self.values, self.starts[name], old), old.requires_grad)
            with torch.no_grad():
                new.copy_(old)
            if self.gradients is not None:
                new.grad = parameter_view(self.gradients, self.starts[name], old)
            replace_parameter(module, name, new)


def parameter_view(vector: Tensor, start: int, like: Tensor) -> Tensor:
    """Return the part of ``vector`` from ``start`` on in the shape of ``like``; (O, I, kh, kw) as channels_last."""
    part = vector[start:start + like.numel()]
    if like.dim() != 4:
        return part.view(like.shape)
    out, into, height, width = like.shape
    return part.view(out, height, width, into).permute(0, 3, 1, 2)
