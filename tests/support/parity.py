"""Results of the published implementation, from one small file that ships with the tests.

For the two networks it holds inputs, results and the few buffers, but not the weights, which would be megabytes: they
were drawn at random, by torch's default initialisation after ``torch.manual_seed``, and are drawn here again in the
same order. Larger cases, with losses and all gradients, lie outside the repository (the fixture ``shared``).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

FILE = Path(__file__).parents[1] / "data" / "parity.safetensors"


@dataclass(frozen=True)
class NetworkCase:
    """A network of the published shape on one image.

    Attributes:
        state: the published tensors by name.
        lr: (1, 3, h, w).
        results: the last iteration's "sr", and of every iteration "code.I" and "kernel.I" (v1 estimates no kernel).
        iterations: the number of iterations.
    """

    state: dict[str, Tensor]
    lr: Tensor
    results: dict[str, Tensor]
    iterations: int


def network_case(version: str) -> NetworkCase:
    """The case of "v1" (x2, kernels of 11x11) or "v2" (x3, kernels of 21x21)."""
    tensors, metadata = _tensors(version)
    facts = json.loads(metadata[version])
    state = _drawn(facts["seed"], facts["parameters"])
    state.update((name, tensors.pop(name)) for name in ("encoder", "init_kernel", "init_ker_map"))
    return NetworkCase(state, tensors.pop("lr"), tensors, facts["iterations"])


def degradation_case() -> dict[str, Tensor]:
    """An image and its kernel, x3: "hr" (1, 3, H, W), "kernel" (1, k, k), "lr" and, rounded to 8 bit, "lr_8bit"."""
    tensors, _ = _tensors("degradation")
    return {name: tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor for name, tensor in tensors.items()}


def _tensors(case: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(FILE, "pt") as file:
        names = [name for name in file.keys() if name.startswith(f"{case}.")]  # noqa: SIM118
        return {name.removeprefix(f"{case}."): file.get_tensor(name) for name in names}, file.metadata()


def _drawn(seed: int, parameters: list[tuple[str, list[int]]]) -> dict[str, Tensor]:
    """Convolutions as torch initialises them, uniform in +-1/sqrt(fan-in); weights of blocks times 0.6.

    NumPy's legacy generator gives torch's random numbers, and always will.
    """
    numbers = np.random.RandomState(seed)
    state: dict[str, Tensor] = {}
    for name, shape in parameters:
        if name.endswith("weight"):
            bound = np.float32(1 / math.sqrt(math.prod(shape[1:])))  # of the bias, which comes next, too
        draws = numbers.randint(0, 1 << 32, math.prod(shape), np.uint32) & 0xFFFFFF
        values = (draws / 2**24 * np.float64(bound - -bound) - bound).astype(np.float32)
        if ".body." in name and name.endswith("weight"):
            values = values * np.float32(0.6)
        state[name] = torch.from_numpy(values).view(shape)
    return state
