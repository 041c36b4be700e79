"""Count the launches that a GPU would be asked for, on a machine without one.

    with counted() as launches:
        step()
    launches.triton["descriptor_kernel"], launches.torch["convolution"], launches.total

Operators take their Triton kernels, which are counted and not run: results are undefined. PyTorch's own operations
are counted, by the profiler, where they would be GPU kernels: if they neither consist of others nor only make views.
The bias of a convolution counts for itself, as it is a GPU kernel of its own in cuDNN, and one operation on a list of
tensors counts once per 64 of them.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

_VIEWS = frozenset((
    "_has_compatible_shallow_copy_type", "_local_scalar_dense", "_nnpack_available", "_reshape_alias", "_unsafe_view",
    "alias", "as_strided", "as_strided_", "broadcast_tensors", "chunk", "detach", "detach_", "diagonal", "empty",
    "empty_like", "empty_strided", "expand", "expand_as", "flatten", "is_nonzero", "is_same_size", "item",
    "lift_fresh", "movedim", "narrow", "new_empty", "permute", "record_stream", "reshape", "resize_", "resolve_conj",
    "result_type", "select", "set_", "slice", "split", "split_with_sizes", "squeeze", "swapaxes", "t", "to",
    "transpose", "unbind", "unflatten", "unfold", "unsafe_split", "unsqueeze", "view", "view_as",
))
# They consist of others on a CPU, but not on a GPU.
_KERNELS = frozenset(("convolution", "convolution_backward"))
_TENSORS_PER_LAUNCH = 64


@dataclass
class Launches:
    """The number of launches of each GPU kernel, by name."""

    torch: Counter[str] = field(default_factory=Counter)
    triton: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        return self.torch.total() + self.triton.total()

    def __str__(self) -> str:
        return f"{self.total}: {dict(self.triton)}, {dict(self.torch.most_common())}"


def modules_that_choose() -> list[ModuleType]:
    """Operators' modules in which ``choose`` can be replaced by ``choose_triton``."""
    return [module for name, module in list(sys.modules.items())
            if name.startswith("dan_fast.ops.") and hasattr(module, "choose")]


def choose_triton(op: str, has: Sequence[str], *tensors: Tensor | None, triton_refuses: str = "", **_: str) -> str:
    """``choose`` of ``dan_fast.ops.backend`` as it would be for tensors on a GPU."""
    narrow = all(tensor is None or tensor.dtype != torch.float64 for tensor in tensors)
    return "triton" if "triton" in has and narrow and not triton_refuses else "torch"


@contextmanager
def counted() -> Iterator[Launches]:
    """Counts what is launched inside."""
    jit = pytest.importorskip("triton.runtime.jit", reason="triton is not installed")
    launches = Launches()

    def count(kernel, /, *args, grid, warmup, **kwargs) -> None:
        launches.triton[kernel.fn.__name__] += 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jit.JITFunction, "run", count)
        for module in modules_that_choose():
            patch.setattr(module, "choose", choose_triton)
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
            yield launches
    for event in profiler.events():
        if event.cpu_parent is None:
            _add(event, launches.torch)


def _add(event, found: Counter[str]) -> None:
    name = event.name.removeprefix("aten::")
    own = event.name.startswith("aten::")
    parts = [child for child in event.cpu_children if child.name.startswith("aten::")]
    if own and name.startswith("_foreach"):
        found[name] += -(-len(parts) // _TENSORS_PER_LAUNCH)
    elif own and name not in _VIEWS and (not parts or not _composite(name)):
        found[name] += 1
        if name == "convolution" and event.input_shapes[2]:
            found["bias of a convolution"] += 1
    else:
        for child in event.cpu_children:
            _add(child, found)


@functools.cache
def _composite(name: str) -> bool:
    """Whether PyTorch computes it by calling other operations: it has no GPU kernel of its own."""
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or name in _KERNELS:
        return packet is None
    for overload in packet.overloads():
        full = f"aten::{name}" if overload == "default" else f"aten::{name}.{overload}"
        try:
            if torch._C._dispatch_has_kernel_for_dispatch_key(full, "CPU"):
                return False
        except RuntimeError:  # made for TorchScript alone
            continue
    return True
