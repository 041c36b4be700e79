"""Matrices from MATLAB's files, of all versions that have been written since 1996. Nothing in them is run."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .errors import DanFastError

# What an HDF5 file, as MATLAB's v7.3 files are, has at the end of its header's first half.
V73 = b"\x89HDF\r\n\x1a\n"
# Kinds of elements in older files: numbers of the types that there are, matrices, text; and compressed ones.
_MATRIX, _COMPRESSED = 14, 15
_KINDS = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, _MATRIX, 16, 17, 18}
_CONTAINERS, _MOST_CELLS, _DEEPEST = (1, 2, 3), 1_000_000, 20


def read_matrices(path: Path, variable: str, most_bytes: int) -> list[np.ndarray]:
    """The matrix that is called ``variable``, or the matrices in its cells.

    Raises:
        DanFastError: it is not there, or the file holds more than ``most_bytes``, compressed or not.
        Exception: of any kind if the file is damaged.
    """
    with open(path, "rb") as file:
        v73 = V73 in file.read(1024)
    return list((_read_73 if v73 else _read_5)(path, variable, most_bytes))


def _read_5(path: Path, variable: str, most_bytes: int) -> Iterator[np.ndarray]:
    from scipy.io import loadmat

    _check(path, most_bytes)
    content = loadmat(path, variable_names=[variable])
    if variable not in content:
        raise DanFastError(f"{path}: has no variable called {variable}")
    found = content[variable]
    yield from found.ravel() if found.dtype == object else [found]


def _check(path: Path, most_bytes: int) -> None:
    """Refuse what would be too large for memory, and what SciPy crashes over: it takes any kind for one it knows."""
    left = most_bytes - path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(128)
        # The header ends with the byte order; files of version 4 have none and are read by other means.
        if start[126:] not in (b"IM", b"MI"):
            return
        order = "<" if start[126:] == b"IM" else ">"
        while left > 0 and len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(order + "II", tag)
            content = file.read(min(size, left))
            if kind == _COMPRESSED:
                content = zlib.decompressobj().decompress(content, left)
                left -= len(content)
            else:
                content = tag + content
            if left > 0:
                _check_elements(memoryview(content), order)
    if left <= 0:
        raise DanFastError(f"{path}: holds more than {most_bytes >> 20} MB, which is too much")


def _check_elements(data: memoryview, order: str, depth: int = 0) -> None:
    """Raise ``ValueError`` unless ``data`` is a row of whole elements, of known kinds, down to the last cell."""
    place = number = 0
    container = False
    while place < len(data):
        kind, size = struct.unpack_from(order + "II", data, place)
        start, end = place + 8, place + 8 + size
        place = end + -end % 8
        if kind >> 16:  # kind and size in one half, up to four bytes in the other
            kind, size = kind & 0xFFFF, kind >> 16
            start, end, place = start - 4, start - 4 + size, start
        if kind not in _KINDS or end > len(data) or depth > _DEEPEST:
            raise ValueError("it is damaged")
        if kind == _MATRIX:
            _check_elements(data[start:end], order, depth + 1)
        elif depth and number == 0:  # flags, of which the lowest byte is the class
            container = struct.unpack_from(order + "I", data, start)[0] & 255 in _CONTAINERS
        elif container and number == 1:
            sides = struct.unpack(f"{order}{(end - start) // 4}I", data[start:end - (end - start) % 4])
            if math.prod(sides) > _MOST_CELLS:
                raise ValueError(f"{math.prod(sides)} cells are too many")
        number += 1


def _read_73(path: Path, variable: str, most_bytes: int) -> Iterator[np.ndarray]:
    import h5py

    left = most_bytes

    def read(dataset: h5py.Dataset) -> np.ndarray:
        # What was never written takes no room in the file, but all of it in memory.
        nonlocal left
        left -= dataset.size * dataset.dtype.itemsize
        if left < 0:
            raise DanFastError(f"{path}: holds more than {most_bytes >> 20} MB, which is too much")
        return dataset[()]

    with h5py.File(path, "r") as content:
        if variable not in content:
            raise DanFastError(f"{path}: has no variable called {variable}")
        # HDF5 holds MATLAB's matrices transposed.
        found = content[variable]
        if found.dtype == object:
            for reference in read(found).ravel():
                yield read(content[reference]).T
        else:
            yield read(found).T
