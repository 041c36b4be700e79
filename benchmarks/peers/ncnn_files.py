"""The number of parameters in a network's two ncnn files: ``.param``, a line per layer, and ``.bin``, their weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dan_fast.errors import DanFastError

MAGIC = "7767517"  # the first line of every .param
HALF = 0x01306B47  # the number before weights that are stored in 16 bits; 0: 32 bits
# Layers that hold nothing to learn. MemoryData is a constant, for example the mean colour.
WITHOUT = {"Input", "BinaryOp", "Concat", "Eltwise", "Interp", "PixelShuffle", "ReLU", "Sigmoid", "Split", "Swish"}


def count_parameters(param: Path, weights: Path) -> int:
    """Count the weights, biases and slopes that ``param`` lists, and check that ``weights`` holds just these.

    Only the kinds of layers that peers have are known. A network whose blocks were merged for inference (SPAN) counts
    as it is stored, not as it was trained.

    Raises:
        DanFastError: a file is of another kind, has layers that are not known, or the two do not fit together.
    """
    data = weights.read_bytes()
    count = place = 0
    try:
        for kind, options in _layers(param):
            if kind in WITHOUT:
                continue
            learned, size = _layer(kind, options, data, place)
            count += learned
            place += size
    except (KeyError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise DanFastError(f"{param}: is not a network that can be counted: {error!r}") from None
    if place != len(data):
        raise DanFastError(f"{weights}: has {len(data)} bytes, expected {place}, as {param.name} lists its layers")
    return count


def _layers(param: Path) -> Iterator[tuple[str, dict[int, float]]]:
    """Kind and options of each layer."""
    lines = param.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise ValueError(f"expected {MAGIC} in the first line")
    for line in lines[2:]:
        words = line.split()
        if words:
            first = 4 + int(words[2]) + int(words[3])  # after the names of what it reads and writes
            pairs = (word.split("=") for word in words[first:])
            yield words[0], {int(key): float(value) for key, value in pairs if int(key) >= 0}


def _layer(kind: str, options: dict[int, float], data: bytes, place: int) -> tuple[int, int]:
    """The number of parameters of a layer, and the bytes that it takes of ``data`` from ``place`` on."""
    if kind == "Convolution":
        biases, weights = int(options[0]) * int(options.get(5, 0)), int(options[6])
        flag = int(np.frombuffer(data, "<u4", 1, place)[0])
        if flag not in (0, HALF):
            raise ValueError(f"weights are stored in a way that is not known: {flag:#x}")
        stored = 4 * weights if flag == 0 else 4 * math.ceil(weights / 2)  # in whole groups of 4 bytes
        return weights + biases, 4 + stored + 4 * biases
    if kind == "PReLU":
        return int(options[0]), 4 * int(options[0])
    if kind == "MemoryData":
        return 0, 4 * math.prod(int(options[axis]) or 1 for axis in (0, 1, 2) if axis in options)
    raise ValueError(f"there is a layer of kind {kind}")
