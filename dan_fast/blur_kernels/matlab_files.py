"""Matrices from MATLAB's files of all versions since 1996. No code in them is run."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import DanFastError

# The signature of an HDF5 file, as MATLAB's v7.3 files are; it follows MATLAB's own header of 512 bytes.
V73 = b"\x89HDF\r\n\x1a\n"
# Older files are a sequence of elements: numbers, by the element's kind, matrices, and compressed elements.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MATRIX, _COMPRESSED = 14, 15
# Classes of matrices: cells; doubles, singles and integers of 8 to 64 bits.
_CELLS, _NUMERIC = 1, range(6, 16)


def read_matrices(path: Path, names: Sequence[str], most_bytes: int) -> list[np.ndarray]:
    """Read the first matrix with one of ``names``, or the matrices in its cells.

    Raises:
        DanFastError: there is no such variable, or the file holds more than ``most_bytes``, compressed or not.
        Exception: of any type if the file is damaged.
    """
    with open(path, "rb") as file:
        v73 = V73 in file.read(1024)
    found = (_read_73 if v73 else _read_5)(path, names, most_bytes)
    if found is None:
        raise DanFastError(f"{path}: has no variable called {' or '.join(names)}")
    return found


def _too_much(path: Path, most_bytes: int) -> DanFastError:
    return DanFastError(f"{path}: holds more than {most_bytes >> 20} MB, which is too much")


# Own code, as SciPy's reader crashes the process over damaged files.


def _read_5(path: Path, names: Sequence[str], most_bytes: int) -> list[np.ndarray] | None:
    """``read_matrices`` for files of version 5 to 7; None if there is no such variable."""
    if path.stat().st_size > most_bytes:
        raise _too_much(path, most_bytes)
    data = path.read_bytes()
    # The header's 128 bytes end with the byte order.
    order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
    if order is None:
        raise ValueError("not a MATLAB file of version 5 or later")
    place, left = 128, most_bytes
    while place < len(data):
        kind, size = struct.unpack_from(order + "II", data, place)
        element, place = data[place:place + 8 + size], place + 8 + size
        if kind == _COMPRESSED:
            element = zlib.decompressobj().decompress(element[8:], left)
        left -= len(element)
        if left <= 0:
            raise _too_much(path, most_bytes)
        (kind, content), *_ = _elements(memoryview(element), order)
        if kind == _MATRIX and content:
            parts = list(_elements(content, order))
            if len(parts) > 2 and bytes(parts[2][1]) in [name.encode() for name in names]:
                return _matrices(parts, order)
    return None


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield kind and content of each element in ``data``; ``ValueError`` if it is not a sequence of elements."""
    place = 0
    while place < len(data):
        if len(data) - place < 8:
            raise ValueError("it is damaged")
        kind, size = struct.unpack_from(order + "II", data, place)
        start, place = place + 8, place + 8 + size + -size % 8
        if kind >> 16:  # a small element: kind and size in the first four bytes, its content in the other four
            kind, size = kind & 0xFFFF, kind >> 16
            start, place = start - 4, start
        if start + size > len(data):
            raise ValueError("it is damaged or truncated")
        yield kind, data[start:start + size]


def _matrices(parts: list[tuple[int, memoryview]], order: str) -> list[np.ndarray]:
    """Decode a matrix, or those in its cells, from its element's parts: flags, sides, name and values."""
    (_, flags), (_, sides), _, *values = parts
    matrix_class, is_complex = flags[0 if order == "<" else 3], flags[1 if order == "<" else 2] & 8
    shape = np.frombuffer(sides, order + "i4")
    if matrix_class == _CELLS:
        # Only the first of the cells within a cell is read.
        return [_matrices(list(_elements(content, order)), order)[0] for _, content in values]
    if matrix_class not in _NUMERIC or is_complex:
        raise ValueError("expected a matrix of real numbers, or cells of such")
    kind, content = values[0]
    numbers = np.frombuffer(content, order + _NUMBERS[kind])
    if math.prod(shape.tolist()) != numbers.size:
        raise ValueError(f"a matrix of {'x'.join(map(str, shape))} numbers holds {numbers.size}")
    return [numbers.reshape(shape, order="F")]


def _read_73(path: Path, names: Sequence[str], most_bytes: int) -> list[np.ndarray] | None:
    """``read_matrices`` for files of version 7.3; None if there is no such variable."""
    import h5py

    left = most_bytes

    def read(dataset: h5py.Dataset) -> np.ndarray:
        # Values that were never written take no room in the file, but they do in memory.
        nonlocal left
        left -= dataset.size * dataset.dtype.itemsize
        if left < 0:
            raise _too_much(path, most_bytes)
        return dataset[()]

    with h5py.File(path, "r") as content:
        name = next((name for name in names if name in content), None)
        if name is None:
            return None
        # HDF5 holds MATLAB's matrices transposed.
        found = content[name]
        if found.dtype == object:
            return [read(content[reference]).T for reference in read(found).ravel()]
        return [read(found).T]
