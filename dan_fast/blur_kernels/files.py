"""Blur kernels from NumPy's and MATLAB's files. No code in them is run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import DanFastError
from .matlab_files import read_matrices
from .padding import padded
from .shift import kernel_shift

NEEDS = "pip install 'dan_fast[mat]'"
LARGEST_KERNEL, LARGEST_SET = 1 << 20, 1 << 28  # bytes of a file
MOST_KERNELS = 10_000
# Variables of MATLAB's files that hold kernels: KAIR's, and those of KernelGAN and DIV2KRK.
MATLAB_NAMES = ("kernels", "Kernel", "ker")


def read_npy(path: Path, most_bytes: int = LARGEST_KERNEL) -> np.ndarray:
    """Read the array of numbers in a ``.npy`` file.

    Raises:
        DanFastError: it is not such a file, or larger than ``most_bytes``.
    """
    try:
        if path.stat().st_size > most_bytes:
            raise DanFastError(f"{path}: is too large for a kernel")
        # Mapping fails where the header promises more than the file holds; plain loading would take the memory.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            array.close()
            raise DanFastError(f"{path}: cannot be read as a .npy file of numbers: it is an archive of several")
        return np.array(array)
    except DanFastError:
        raise
    except OSError as error:
        raise DanFastError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # damaged headers raise errors of any type
        raise DanFastError(f"{path}: cannot be read as a .npy file of numbers: {_one_line(error)}") from None


def read_kernels(path: Path) -> np.ndarray:
    """Read all kernels of a file: each divided by its sum, smaller ones padded with zeros, centre on centre.

    Args:
        path: ``.npy``: (k, k) or (n, k, k); ``.mat``: a matrix, or cells of matrices of several sizes, called
            ``kernels``, ``Kernel`` or ``ker``. Kernels are used as they are: correlated with the image, not flipped.

    Returns:
        (n, k, k) float32, k odd.

    Raises:
        DanFastError: the file cannot be read or is of another kind, or something in it is not a kernel.
    """
    try:
        if path.suffix.lower() == ".npy":
            found = _separate(read_npy(path, LARGEST_SET))
        elif path.suffix.lower() == ".mat":
            found = read_matrices(path, MATLAB_NAMES, LARGEST_SET)
        else:
            raise DanFastError(f"{path}: expected a .npy or a .mat file of kernels")
    except ModuleNotFoundError as error:
        raise DanFastError(f"{path}: needs {error.name}, which is not installed: {NEEDS}") from None
    except DanFastError:
        raise
    except Exception as error:  # damaged files raise errors of any type
        raise DanFastError(f"{path}: cannot be read as kernels: {_one_line(error)}") from None
    if not found:
        raise DanFastError(f"{path}: holds no kernel")
    # Each is padded to the size of the largest.
    largest = max(np.size(kernel) for kernel in found)
    if len(found) > MOST_KERNELS or len(found) * largest * 8 > LARGEST_SET:
        raise DanFastError(f"{path}: {len(found)} kernels of up to {largest} numbers are too many: expected at most "
                           f"{MOST_KERNELS}, together at most {LARGEST_SET >> 20} MB as 64-bit numbers")
    with np.errstate(all="ignore"):  # the results are checked for numbers that are not finite
        kernels = [_checked(np.asarray(kernel), f"{path}, kernel {number}") for number, kernel in enumerate(found)]
    size = max(len(kernel) for kernel in kernels) | 1
    return np.stack([padded(kernel, size) for kernel in kernels]).astype(np.float32)


def _separate(array: np.ndarray) -> list[np.ndarray]:
    """The kernels of (n, k, k), or the one of (k, k)."""
    if array.ndim != 3:
        return [array]
    # An array of a billion empty kernels takes no bytes; a list of them would.
    return list(array) if array.size else []


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _checked(kernel: np.ndarray, name: str) -> np.ndarray:
    """``kernel`` in float64, divided by its sum; ``DanFastError`` if it cannot be a blur kernel."""
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not kernel.size or kernel.dtype.kind not in "fiu":
        raise DanFastError(f"{name} has shape {kernel.shape} and type {kernel.dtype}, expected (k, k) numbers")
    kernel = kernel.astype(np.float64)
    total = kernel.sum()
    if not np.isfinite(kernel).all() or not 0 < total < np.inf:
        raise DanFastError(f"{name} has the sum {total:g}: expected finite numbers with a positive sum")
    kernel /= total
    if not np.isfinite(kernel.astype(np.float32)).all():
        raise DanFastError(f"{name} has numbers far larger than their sum, expected a blur kernel")
    try:
        kernel_shift(kernel)
    except DanFastError as error:
        raise DanFastError(f"{name}: {error}") from None
    return kernel
