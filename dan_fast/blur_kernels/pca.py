"""The code of a kernel: its projection on the principal components of random kernels."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .gaussian import random_isotropic_kernels

# Setting 1: smallest and largest sigma in training, by scale (v1, section 4.1).
ISOTROPIC_SIGMA = {2: (0.2, 2.0), 3: (0.2, 3.0), 4: (0.2, 4.0)}
FIT_COUNT = 30_000


class PCAEncoder:
    """Projects kernels on a fixed basis: ``code = kernel.flatten() @ matrix``.

    As in the published networks, no mean is subtracted from the kernel. A trained network works only
    with the matrix that it was trained with, which is a buffer of its checkpoint.

    Args:
        matrix: (k*k, c), orthonormal columns, largest variance first.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    @classmethod
    def fit(cls, kernels: Tensor, code_length: int) -> PCAEncoder:
        """Use the first ``code_length`` principal components of ``kernels`` (N, k, k), N >= 2."""
        flat = kernels.flatten(1).double()
        if not 1 <= code_length <= min(flat.shape):
            raise ValueError(f"code_length={code_length}: {flat.shape[0]} kernels of {flat.shape[1]} values "
                             f"have at most {min(flat.shape)} components")
        # The principal components are the eigenvectors of the centred kernels' scatter matrix, which is far
        # smaller than the kernels; eigh sorts by rising eigenvalue.
        flat = flat - flat.mean(0)
        vectors = torch.linalg.eigh(flat.T @ flat).eigenvectors[:, -code_length:].flip(1)
        # The sign of an eigenvector is arbitrary: its largest entry becomes positive on every machine.
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        return cls((vectors * largest.sign()).float().contiguous())

    @classmethod
    @lru_cache(maxsize=16)
    def isotropic(cls, scale: int, kernel_size: int, code_length: int) -> PCAEncoder:
        """Fit to 30,000 isotropic kernels of setting 1 at ``scale``; the same every time."""
        generator = torch.Generator().manual_seed(0)
        kernels = random_isotropic_kernels(FIT_COUNT, kernel_size, ISOTROPIC_SIGMA[scale], generator)
        return cls.fit(kernels, code_length)

    def __call__(self, kernel: Tensor) -> Tensor:
        """Encode ``kernel`` (B, k, k) as (B, c)."""
        return kernel.flatten(1) @ self.matrix.to(kernel)

    def decode(self, code: Tensor) -> Tensor:
        """Approximate the kernel (B, k, k), sum 1, that ``code`` (B, c) describes.

        The basis spans differences from the mean kernel; the part of the mean that lies outside
        the basis is lost. Most of it is the kernels' common sum, 1, which is restored by adding the
        same number to all taps. For setting 1 at x4 the sum of absolute differences to the true
        kernel is 0.17, whatever its sigma.
        """
        flat = code @ self.matrix.T.to(code)
        flat = flat + (1 - flat.sum(1, keepdim=True)) / flat.shape[1]
        k = round(flat.shape[1] ** 0.5)
        return flat.view(-1, k, k)
