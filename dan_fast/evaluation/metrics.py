"""The measures that papers print of how close two images, or two blur kernels, are."""

from __future__ import annotations

import cv2
import numpy as np

from ..blur_kernels.padding import padded
from ..errors import DanFastError

# Luma of ITU-R BT.601 in studio range, as MATLAB's rgb2ycbcr: RGB in 0..1 -> Y in 16..235.
LUMA = np.array([65.481, 128.553, 24.966])
WINDOW = cv2.getGaussianKernel(11, 1.5)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(a: np.ndarray, b: np.ndarray, *, crop: int = 0, y_channel: bool = False) -> float:
    """Peak signal-to-noise ratio in dB, peak 255; infinite for equal images.

    Args:
        a, b: (H, W, 3) uint8 RGB, the same shape.
        crop: pixels left out on every side.
        y_channel: compare the luma Y (BT.601, not rounded) instead of all three channels together.

    Raises:
        DanFastError: a shape, dtype or crop does not fit.
    """
    a, b = _comparable(a, b, crop, y_channel)
    return _psnr(float(np.mean((a - b) ** 2)), peak=255)


def ssim(a: np.ndarray, b: np.ndarray, *, crop: int = 0, y_channel: bool = False) -> float:
    """Structural similarity in [-1, 1], 1 for equal images; arguments and errors as :func:`psnr`.

    The window is a Gaussian of 11x11 pixels and sigma 1.5, placed only where it lies inside the image; K1 = 0.01 and
    K2 = 0.03. Of RGB images it is the mean over the channels. ``crop`` must leave at least 11x11 pixels.
    """
    a, b = _comparable(a, b, crop, y_channel)
    if min(a.shape[:2]) < len(WINDOW):
        raise DanFastError(f"images of {a.shape[0]}x{a.shape[1]} pixels after crop={crop}: "
                           f"SSIM needs at least {len(WINDOW)}x{len(WINDOW)}")
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    var_a = _window_mean(a * a) - mean_a**2
    var_b = _window_mean(b * b) - mean_b**2
    cov = _window_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    structure = (2 * cov + C2) / (var_a + var_b + C2)
    return float(np.mean(luminance * structure))


def kernel_error(estimate: np.ndarray, true: np.ndarray) -> float:
    """Sum of absolute differences of two kernels with sum 1: 0 equal, 2 nothing in common.

    Args:
        estimate, true: (k, k), floating point; of two sizes the smaller one is padded with zeros, centre on centre.

    Raises:
        DanFastError: a kernel is not square.
    """
    estimate, true = _same_size(estimate, true)
    return float(np.abs(estimate - true).sum())


def kernel_psnr(estimate: np.ndarray, true: np.ndarray) -> float:
    """``10 log10(1 / mean((estimate - true)^2))`` in dB: the peak is 1, the taps are not rescaled.

    Arguments and errors as :func:`kernel_error`. The mean runs over all taps: compare figures only among kernels of one
    size.
    """
    estimate, true = _same_size(estimate, true)
    return _psnr(float(np.mean((estimate - true) ** 2)), peak=1)


def _psnr(mean_square: float, peak: float) -> float:
    return float("inf") if mean_square == 0 else float(10 * np.log10(peak**2 / mean_square))


def _comparable(a: np.ndarray, b: np.ndarray, crop: int, y_channel: bool) -> list[np.ndarray]:
    """Check both images and return them cropped, in float64: (h, w, 3), or (h, w) for Y."""
    for name, image in (("a", a), ("b", b)):
        if image.dtype != np.uint8:
            raise DanFastError(f"{name} is {image.dtype}, expected uint8: metrics compare 8-bit images")
        if image.ndim != 3 or image.shape[2] != 3:
            raise DanFastError(f"{name} has shape {image.shape}, expected (height, width, 3)")
    if a.shape != b.shape:
        raise DanFastError(f"a has shape {a.shape} and b {b.shape}: expected images of the same size")
    height, width = a.shape[:2]
    if crop < 0 or 2 * crop >= min(height, width):
        raise DanFastError(f"crop={crop} leaves nothing of {height}x{width} pixels, or is negative")
    inside = (slice(crop, height - crop), slice(crop, width - crop))
    images = [image[inside].astype(np.float64) for image in (a, b)]
    return [image @ LUMA / 255 + 16 for image in images] if y_channel else images


def _window_mean(image: np.ndarray) -> np.ndarray:
    """Gaussian-weighted mean around every pixel whose window lies inside."""
    edge = len(WINDOW) // 2
    return cv2.sepFilter2D(image, -1, WINDOW, WINDOW)[edge:-edge, edge:-edge]


def _same_size(*kernels: np.ndarray) -> list[np.ndarray]:
    """Kernels in float64, zero-padded to the largest."""
    largest = max((side for kernel in kernels for side in kernel.shape), default=0)
    return [padded(kernel.astype(np.float64), largest) for kernel in kernels]
