"""Random degradations, as training needs them: kernels and noise are drawn, and images degraded by them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from ..blur_kernels.gaussian import random_irregular_kernels, random_isotropic_kernels
from ..blur_kernels.pca import FIT_COUNT, ISOTROPIC_SIGMA, PCAEncoder
from .degrade import degrade

# Setting 2 (v2, section 4.1): kernel size by scale. x3 is not in the paper; ours lies between.
IRREGULAR_SIZE = {2: 11, 3: 21, 4: 31}


@dataclass(frozen=True)
class Degradation:
    """Random degradations of one setting."""

    scale: int = field(metadata={"help": "downsampling factor"})
    kernel_size: int = field(metadata={"help": "side k of the kernels"})
    sigma: tuple[float, float] = field(metadata={"help": "smallest and largest standard deviation, HR pixels"})
    irregular: bool = field(default=False, metadata={
        "help": "anisotropic and disturbed kernels (setting 2) instead of isotropic ones (setting 1)"})
    disturbance: float = field(default=0.25, metadata={
        "help": "largest relative disturbance of a tap; irregular kernels only"})
    noise: float = field(default=0.0, metadata={
        "help": "largest standard deviation of additive Gaussian noise in [0, 1] units: an 8-bit level is 1/255; each "
                "image draws its own, uniform from 0; 0: none, as in both settings"})

    @classmethod
    def setting1(cls, scale: int) -> Degradation:
        """Isotropic Gaussian kernels, 21x21, sigma from 0.2 to ``scale`` (v1, section 4.1)."""
        return cls(scale, 21, ISOTROPIC_SIGMA[scale])

    @classmethod
    def setting2(cls, scale: int) -> Degradation:
        """Irregular kernels as in DIV2KRK: two sigmas from 0.6 to 5, disturbed (v2, section 4.1)."""
        return cls(scale, IRREGULAR_SIZE[scale], (0.6, 5.0), irregular=True)

    def kernels(self, count: int, generator: torch.Generator | None = None,
                device: torch.device | str | None = None) -> Tensor:
        """Draw (count, k, k) kernels on ``device``, by default the generator's."""
        if self.irregular:
            return random_irregular_kernels(count, self.kernel_size, self.sigma, self.disturbance, generator, device)
        return random_isotropic_kernels(count, self.kernel_size, self.sigma, generator, device)

    def encoder(self, code_length: int) -> PCAEncoder:
        """Fit the PCA basis to 30,000 kernels of this setting; the same every time."""
        lowest, highest = self.sigma  # a list cannot be hashed
        return _encoder(replace(self, sigma=(lowest, highest)), code_length)

    def __call__(self, hr: Tensor, generator: torch.Generator | None = None,
                 part: tuple[int, int] = (0, 1)) -> tuple[Tensor, Tensor]:
        """Degrade ``hr`` (B, C, H, W) in [0, 1], H and W multiples of the scale.

        With ``part`` (i, n), ``hr`` is part i of n of a larger batch, and draws the same random numbers as it would
        within that batch.

        If ``generator`` is None or on the device of ``hr``, the CPU does not wait for the GPU, and a CUDA graph with
        which the generator is registered can capture the call. A generator on the CPU gives the same kernels on every
        device.

        Returns:
            lr: (B, C, H/s, W/s), rounded to 8 bit.
            kernel: (B, k, k), the kernels that blurred it.
        """
        device = generator.device if generator else hr.device
        index, count = part
        whole, own = len(hr) * count, slice(len(hr) * index, len(hr) * (index + 1))
        kernel = self.kernels(whole, generator, device)[own].to(hr.device)
        if not self.noise:
            return degrade(hr, kernel, self.scale), kernel
        level = self.noise * torch.rand(whole, 1, 1, 1, generator=generator, device=device)
        shape = whole, hr.shape[1], hr.shape[2] // self.scale, hr.shape[3] // self.scale
        noise = level * torch.randn(shape, generator=generator, device=device)
        return degrade(hr, kernel, self.scale, noise[own]), kernel


@lru_cache(maxsize=16)
def _encoder(degradation: Degradation, code_length: int) -> PCAEncoder:
    # Cached, as a fit takes seconds and an experiment trains dozens of networks for the same kernels.
    return PCAEncoder.fit(degradation.kernels(FIT_COUNT, torch.Generator().manual_seed(0)), code_length)
