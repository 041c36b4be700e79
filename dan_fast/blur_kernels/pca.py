"""The kernel's reduced code: a projection on the main components of random kernels."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from .gaussian import random_isotropic_kernels

# Setting 1: the largest sigma in training at each scale; the smallest is 0.2 (v1, section 4.1).
ISOTROPIC_SIGMA = {2: (0.2, 2.0), 3: (0.2, 3.0), 4: (0.2, 4.0)}
FIT_COUNT = 30_000


class PCAEncoder:
    """Projects kernels on a fixed basis: ``code = kernel.flatten() @ matrix``.

    No mean is subtracted from the kernel, as in the published networks. A trained network only
    works with the matrix that it was trained with; that one is a buffer of the checkpoint.

    Args:
        matrix: (k*k, c), orthonormal columns, most variance first.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    @classmethod
    def fit(cls, kernels: Tensor, code_length: int) -> PCAEncoder:
        """The first ``code_length`` main components of ``kernels`` (N, k, k), centred; N >= 2."""
        flat = kernels.flatten(1).double()
        if not 1 <= code_length <= min(flat.shape):
            raise ValueError(f"code_length={code_length}: {flat.shape[0]} kernels of {flat.shape[1]} values "
                             f"have at most {min(flat.shape)} components")
        # Left singular vectors of the centred kernels = eigenvectors of their scatter matrix,
        # which is far smaller than the kernels; eigh sorts upwards.
        flat = flat - flat.mean(0)
        vectors = torch.linalg.eigh(flat.T @ flat).eigenvectors[:, -code_length:].flip(1)
        # A sign is arbitrary: make the largest entry positive, so that every machine agrees.
        largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
        return cls((vectors * largest.sign()).float().contiguous())

    @classmethod
    @lru_cache(maxsize=16)
    def isotropic(cls, scale: int, kernel_size: int, code_length: int) -> PCAEncoder:
        """Fitted to 30,000 isotropic kernels of setting 1 at ``scale``; the same every time."""
        generator = torch.Generator().manual_seed(0)
        kernels = random_isotropic_kernels(FIT_COUNT, kernel_size, ISOTROPIC_SIGMA[scale], generator)
        return cls.fit(kernels, code_length)

    def __call__(self, kernel: Tensor) -> Tensor:
        """``kernel`` (B, k, k) -> ``code`` (B, c)."""
        return kernel.flatten(1) @ self.matrix.to(kernel)

    def decode(self, code: Tensor) -> Tensor:
        """``code`` (B, c) -> roughly the kernel (B, k, k), sum 1, that it describes.

        The basis was fitted to differences from the mean kernel, and only the basis is kept: of
        what all kernels share the code knows nothing. Their sum, 1, is the larger part of that
        and is put back, evenly; the rest is lost. For setting 1 at x4 the sum of absolute
        differences to the true kernel is 0.17, whatever its sigma.
        """
        flat = code @ self.matrix.T.to(code)
        flat = flat + (1 - flat.sum(1, keepdim=True)) / flat.shape[1]
        k = round(flat.shape[1] ** 0.5)
        return flat.view(-1, k, k)
