"""The configurations that GPU kernels are launched with; there is no autotuning at run time.

Each file of GPU kernels lists, by generation of GPUs, the ``Candidates`` that ship; the first is the default.
``tuned.json`` beside this file, if there is one, holds better ones that were found by measuring::

    {"<device name>": {"<kernel>": {"<shape class>": {"BLOCK": 4096, "num_warps": 4, …}}}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from .without import without

Config = dict[str, int]
"""Keyword arguments of a launch: block sizes, num_warps, num_stages."""

Candidates = Mapping[int, Sequence[Config]]
"""Configurations by the oldest compute capability that they are for (80, 90, …)."""

TUNED = Path(__file__).with_name("tuned.json")


def candidates_for(candidates: Candidates, capability: int) -> Sequence[Config]:
    """The candidates of the newest generation that is not newer than ``capability``, or of the oldest of all."""
    return candidates[max((c for c in candidates if c <= capability), default=min(candidates))]


def shape_class(x: Tensor) -> str:
    """The name that images (B, C, H, W) with the same choice share: dtype, channels, and a class of size."""
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    size = "small" if pixels <= 2**14 else "medium" if pixels <= 2**18 else "large"
    return f"{str(x.dtype).removeprefix('torch.')} C{x.shape[1]} {size}"


def choose(kernel: str, shape_class: str, candidates: Candidates, device: torch.device) -> Config:
    """The configuration of ``kernel`` on ``device``: the tuned one, or the default of the device's generation.

    Args:
        kernel: its name in ``tuned.json``.
        device: a GPU, or the CPU when Triton interprets, which counts as the oldest generation.
    """
    if device.type != "cuda":
        return candidates_for(candidates, 0)[0]
    name, generation = _properties(device.index if device.index is not None else torch.cuda.current_device())
    tuned = _tuned().get(name, {}).get(kernel, {}).get(shape_class)
    return tuned or candidates_for(candidates, generation)[0]


def capability(device: torch.device) -> int:
    """The compute capability of a GPU, for instance 90; of the CPU, when Triton interprets, 0."""
    if device.type != "cuda":
        return 0
    return _properties(device.index if device.index is not None else torch.cuda.current_device())[1]


def starts_early(device: torch.device) -> bool:
    """Whether kernels are launched there with programmatic dependent launch (sm_90 and later).

    Such a GPU kernel may start while the one before it still runs, which hides the time of a launch. It must call
    ``gdc_wait()`` before its first access to memory: that waits until the kernel before has ended and its results can
    be read, so nothing is read too early, and nothing is overwritten that is still being read. As every program
    waits, the end of one kernel implies the end of all kernels before it. ``gdc_launch_dependents()`` allows the next
    kernel to start. A kernel that is launched in the ordinary way waits until the one before has ended.
    """
    return capability(device) >= 90 and not without("programmatic_launch")


def tf32() -> bool:
    """Whether float32 convolutions may round to TensorFloat-32: PyTorch's setting for cuDNN's convolutions."""
    return torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]


@cache
def _properties(index: int) -> tuple[str, int]:
    properties = torch.cuda.get_device_properties(index)
    return properties.name, 10 * properties.major + properties.minor


@cache
def _tuned() -> dict[str, dict[str, dict[str, Config]]]:
    return json.loads(TUNED.read_text()) if TUNED.is_file() else {}
