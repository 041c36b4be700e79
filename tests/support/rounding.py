"""The error that a floating point type causes by itself, by rounding to it after every operation of a computation.

PyTorch's own error in the type is no measure: it depends on the machine's instruction set, which decides on the order
and the intermediate precision of sums.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only


class RoundedTo(TorchFunctionMode):
    """Inside, each operation on float64 tensors is rounded to ``dtype``, and so is its gradient."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, function, types, args=(), kwargs=None) -> Any:
        return tree_map_only(Tensor, self._rounded, function(*args, **(kwargs or {})))

    def _rounded(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype).double() if tensor.dtype == torch.float64 else tensor


def coarsest(*tensors: Tensor) -> torch.dtype:
    """The type of the floating point tensors that rounds most."""
    return max((tensor.dtype for tensor in tensors if tensor.is_floating_point()), key=lambda t: torch.finfo(t).eps)
