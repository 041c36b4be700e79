"""Blur kernels from files: NumPy's and MATLAB's. Nothing in them is run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .errors import DanFastError
from .kernel_shift import in_window, kernel_shift

# What an HDF5 file, as MATLAB's v7.3 files are, has at the end of its header's first half.
V73 = b"\x89HDF\r\n\x1a\n"
NEEDS = "pip install 'dan_fast[mat]'"
LARGEST_KERNEL, LARGEST_SET = 1 << 20, 1 << 28  # bytes of a file


def read_npy(path: Path, most_bytes: int = LARGEST_KERNEL) -> np.ndarray:
    """The numbers in a ``.npy`` file; ``DanFastError`` if it is none, or larger than ``most_bytes``."""
    try:
        with path.open("rb") as file:
            # Its size is in a header that may say anything.
            if path.stat().st_size > most_bytes:
                raise DanFastError(f"{path}: is too large for a kernel")
            return np.load(file, allow_pickle=False)
    except OSError as error:
        raise DanFastError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, EOFError, MemoryError) as error:
        raise DanFastError(f"{path}: cannot be read as a .npy file of numbers: {error}") from None


def read_kernels(path: Path) -> np.ndarray:
    """All kernels of a file, each with sum 1, smaller ones with zeros around them, middle (``size // 2``) on middle.

    Args:
        path: ``.npy``: (k, k) or (n, k, k); ``.mat``: a matrix, or cells of matrices of several sizes, called
            ``kernels``. Kernels are used as they stand there: correlated with the image, not flipped.

    Returns:
        (n, k, k) float32, k odd.

    Raises:
        DanFastError: the file cannot be read, is of another kind, or something in it is no kernel.
    """
    try:
        if path.suffix == ".npy":
            found = _stack(read_npy(path, LARGEST_SET))
        elif path.suffix == ".mat":
            found = list(_matlab(path))
        else:
            raise DanFastError(f"{path}: expected a .npy or a .mat file of kernels")
    except ModuleNotFoundError as error:
        raise DanFastError(f"{path}: needs {error.name}, which is not installed: {NEEDS}") from None
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        if isinstance(error, DanFastError):
            raise
        raise DanFastError(f"{path}: cannot be read as kernels: {error}") from None
    if not found:
        raise DanFastError(f"{path}: holds no kernel")
    kernels = [_checked(np.asarray(kernel), f"{path}, kernel {number}") for number, kernel in enumerate(found)]
    size = max(len(kernel) for kernel in kernels) | 1
    return np.stack([in_window(kernel, size) for kernel in kernels]).astype(np.float32)


def _stack(array: np.ndarray) -> list[np.ndarray]:
    return list(array) if array.ndim == 3 else [array]


def _matlab(path: Path) -> Iterator[np.ndarray]:
    with open(path, "rb") as file:
        v73 = V73 in file.read(1024)
    if not v73:
        from scipy.io import loadmat

        content = loadmat(path, variable_names=["kernels"])
        if "kernels" not in content:
            raise DanFastError(f"{path}: has no variable called kernels")
        kernels = content["kernels"]
        yield from kernels.ravel() if kernels.dtype == object else [kernels]
        return
    import h5py

    with h5py.File(path, "r") as content:
        if "kernels" not in content:
            raise DanFastError(f"{path}: has no variable called kernels")
        kernels = content["kernels"]
        # HDF5 holds MATLAB's matrices transposed.
        if kernels.dtype == object:
            for reference in kernels[()].ravel():
                yield content[reference][()].T
        else:
            yield kernels[()].T


def _checked(kernel: np.ndarray, name: str) -> np.ndarray:
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not kernel.size or kernel.dtype.kind not in "fiu":
        raise DanFastError(f"{name} has shape {kernel.shape} and type {kernel.dtype}, expected (k, k) numbers")
    kernel = kernel.astype(np.float64)
    if not np.isfinite(kernel).all() or kernel.sum() <= 0:
        raise DanFastError(f"{name} has the sum {kernel.sum():g}: expected finite numbers with a positive sum")
    try:
        kernel_shift(kernel)
    except DanFastError as error:
        raise DanFastError(f"{name}: {error}") from None
    return kernel / kernel.sum()
