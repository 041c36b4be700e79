"""Gaussian blur kernels, isotropic and irregular, of given or of random widths."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def dirac_kernel(size: int, *, device: torch.device | str | None = None,
                 dtype: torch.dtype = torch.float32) -> Tensor:
    """(size, size), 1 at the pixel that blurring keeps in place (``size // 2``), 0 elsewhere."""
    kernel = torch.zeros(size, size, device=device, dtype=dtype)
    kernel[size // 2, size // 2] = 1
    return kernel


def gaussian_kernels(sigma: Tensor, size: int, angle: Tensor | None = None) -> Tensor:
    """Make Gaussian kernels, each with sum 1, centred on ``size // 2``.

    Each is the density of N(0, U diag(sigma^2) U^T) at the pixel centres, divided by its sum (v1, section 4.1; v2,
    section 4.1).

    Args:
        sigma: standard deviations in HR pixels, positive: (B,) isotropic, or (B, 2) along the
            two main axes.
        size: side k of the kernels, odd or even, at least 1.
        angle: (B,) radians from the x axis to the first main axis; needs ``sigma`` (B, 2).

    Returns:
        (B, k, k), dtype and device of ``sigma``.

    Raises:
        ValueError: a shape, size or sigma is impossible.
    """
    sigma = torch.as_tensor(sigma)
    if not sigma.is_floating_point():
        sigma = sigma.float()
    if size < 1:
        raise ValueError(f"size={size}: a kernel needs at least 1 pixel")
    if sigma.dim() not in (1, 2) or (sigma.dim() == 2 and sigma.shape[1] != 2):
        raise ValueError(f"sigma has shape {tuple(sigma.shape)}, expected (B,) or (B, 2)")
    if not bool((sigma > 0).all()):
        raise ValueError("sigma must be positive everywhere")
    if sigma.dim() == 1:
        sigma = sigma[:, None].expand(-1, 2)
    return _density(sigma, size, sigma.new_zeros(len(sigma)) if angle is None else angle)


def _density(sigma: Tensor, size: int, angle: Tensor) -> Tensor:
    """``gaussian_kernels`` for ``sigma`` (B, 2), without the checks, which would wait for a GPU."""
    axis = torch.arange(size, device=sigma.device, dtype=sigma.dtype) - size // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    along = (x * cos + y * sin) / sigma[:, 0, None, None]
    across = (y * cos - x * sin) / sigma[:, 1, None, None]
    # exp(exponent) / sum(exp(exponent)), which as a softmax never divides 0 by 0, however small sigma is.
    exponent = -0.5 * (along**2 + across**2)
    return exponent.flatten(1).softmax(1).view_as(exponent)


def uniform(count: int, low: float, high: float, generator: torch.Generator | None,
            device: torch.device | str | None = None) -> Tensor:
    """Draw (count,) float32, uniform in [low, high)."""
    if device is None and generator is not None:
        device = generator.device
    return low + (high - low) * torch.rand(count, generator=generator, device=device)


def random_isotropic_kernels(count: int, size: int, sigma: tuple[float, float],
                             generator: torch.Generator | None = None,
                             device: torch.device | str | None = None) -> Tensor:
    """Draw isotropic Gaussian kernels (count, size, size), sigma uniform in the given range (setting 1)."""
    sigmas = uniform(count, *sigma, generator, device)
    return _density(sigmas[:, None].expand(-1, 2), size, torch.zeros_like(sigmas))


def random_irregular_kernels(count: int, size: int, sigma: tuple[float, float],
                             disturbance: float = 0.25,
                             generator: torch.Generator | None = None,
                             device: torch.device | str | None = None) -> Tensor:
    """Draw anisotropic, disturbed Gaussian kernels (count, size, size) (setting 2, as in DIV2KRK).

    Two sigmas are uniform in the range, the angle is uniform in (-pi, pi), every tap is multiplied by
    ``1 + uniform(0, disturbance)``, and the kernel is divided by its sum.
    """
    sigmas = torch.stack([uniform(count, *sigma, generator, device) for _ in range(2)], 1)
    kernels = _density(sigmas, size, uniform(count, -math.pi, math.pi, generator, device))
    taps = uniform(kernels.numel(), 0, disturbance, generator, device).view_as(kernels)
    kernels = kernels * (1 + taps)
    return kernels / kernels.sum((1, 2), keepdim=True)
