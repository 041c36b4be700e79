"""Sheets made of the photos that ship: estimated kernels beside true ones, and DAN on photos as phones take them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from ..degradation import gaussian_kernels
from ..degradation.degrade import degrade_image
from ..evaluation.crops import crop_to_multiple, middle
from ..evaluation.degraded_set import GAUSSIAN8_SIGMA, KERNEL_SIZE
from ..evaluation.measure import bicubic
from ..evaluation.metrics import kernel_error, psnr
from ..evaluation.pictures import kernel_picture, side_by_side
from ..files import SAMPLES
from ..image_files import find_images, read_image, to_8_bits, write_image
from ..inference import Upscaler

# Side of the middle of each photo that is shown, pixels.
SHOWN = 224


@dataclass(frozen=True)
class DamagedPhoto:
    """A photo as a phone might have taken it.

    Attributes:
        photo: name of the sample.
        damage: what was done to it, for the label.
        hr: (H, W, 3) uint8.
        lr: (H/s, W/s, 3) uint8.
        kernel: (k, k), sum 1.
    """

    photo: str
    damage: str
    hr: np.ndarray
    lr: np.ndarray
    kernel: np.ndarray


def motion_kernel(length: float, angle: float, size: int = KERNEL_SIZE) -> np.ndarray:
    """The centred kernel (size, size), sum 1, of a straight shake of ``length`` pixels, ``angle`` degrees below the x
    axis."""
    # Each point of the shake falls on four taps.
    steps = np.linspace(-length / 2, length / 2, 32 * size)
    x, y = steps * np.cos(np.radians(angle)) + size // 2, steps * np.sin(np.radians(angle)) + size // 2
    kernel = np.zeros((size, size))
    for across, wx in ((np.floor(x), 1 - x % 1), (np.floor(x) + 1, x % 1)):
        for down, wy in ((np.floor(y), 1 - y % 1), (np.floor(y) + 1, y % 1)):
            np.add.at(kernel, (down.astype(int), across.astype(int)), wx * wy)
    return kernel / kernel.sum()


def defocus_kernel(radius: float, size: int = KERNEL_SIZE) -> np.ndarray:
    """The kernel (size, size), sum 1, of a lens out of focus: a disc with an antialiased edge."""
    down, right = np.mgrid[:size, :size] - size // 2
    kernel = np.clip(radius + 0.5 - np.hypot(down, right), 0, 1)
    return kernel / kernel.sum()


def damaged_photos(scale: int) -> Iterator[DamagedPhoto]:
    """Yield every photo that ships with each kind of damage, the same in every run."""
    gaussian = gaussian_kernels(torch.tensor([0.6 * scale]), KERNEL_SIZE)[0].numpy()
    kinds: list[tuple[str, np.ndarray, float, Callable[[np.ndarray], np.ndarray]]] = [
        ("Gaussian", gaussian, 0, _unchanged), ("motion", motion_kernel(12, 30), 0, _unchanged),
        ("defocus", defocus_kernel(4.5), 0, _unchanged), ("noise", gaussian, 8 / 255, _unchanged),
        ("JPEG", gaussian, 0, _jpeg)]
    for path, (damage, kernel, noise, store) in itertools.product(find_images([SAMPLES]), kinds):
        hr = _sharp(path, scale)
        generator = torch.Generator().manual_seed(0)
        lr = store(degrade_image(hr, torch.from_numpy(kernel).float(), scale, noise, generator))
        yield DamagedPhoto(path.stem, damage, hr, lr, kernel)


def _sharp(path: Path, scale: int) -> np.ndarray:
    """The photo in 8 bit, cropped to a multiple of the scale."""
    return crop_to_multiple(to_8_bits(read_image(path).rgb), scale)


def _unchanged(image: np.ndarray) -> np.ndarray:
    return image


def _jpeg(image: np.ndarray) -> np.ndarray:
    """``image`` after JPEG compression as messengers on phones apply it."""
    stored = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    decoded = cv2.imdecode(stored, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def draw_limits(upscaler: Upscaler, path: Path) -> list[tuple[str, float, float, float]]:
    """Write a sheet to ``path`` that shows each kind of damage on another photo.

    Returns:
        Per kind of damage its name and means over all photos: PSNR on Y of bicubic and of DAN, and the kernel error.
    """
    rows: list[np.ndarray] = []
    figures: dict[str, list[tuple[float, float, float]]] = {}
    scale = upscaler.scale
    for case in damaged_photos(scale):
        result, plain = upscaler(case.lr), bicubic(case.lr, scale)
        before, after = (psnr(image, case.hr, crop=scale, y_channel=True) for image in (plain, result.image))
        of_damage = figures.setdefault(case.damage, [])
        of_damage.append((before, after, kernel_error(result.kernel, case.kernel)))
        # The n-th kind of damage is shown on the n-th photo.
        if len(of_damage) - 1 != list(figures).index(case.damage):
            continue
        kernels = np.concatenate([kernel_picture(kernel, SHOWN // 2) for kernel in (result.kernel, case.kernel)])
        rows.append(side_by_side(
            [*(middle(image, SHOWN) for image in (plain, result.image, case.hr)), kernels],
            [f"{case.damage}: bicubic {before:.2f} dB", f"DAN {after:.2f} dB", "sharp", "DAN, true"]))
    write_image(path, np.concatenate(rows))
    return [(damage, *np.mean(of_damage, 0).tolist()) for damage, of_damage in figures.items()]


def draw_kernels(upscaler: Upscaler, path: Path) -> None:
    """Write a picture of estimated kernels (above) and true ones (below) to ``path``; each photo has another sigma."""
    scale, columns, labels = upscaler.scale, [], []
    photos = find_images([SAMPLES])
    for photo, sigma in zip(photos, np.linspace(*GAUSSIAN8_SIGMA[scale], len(photos)).tolist(), strict=True):
        hr = _sharp(photo, scale)
        true = gaussian_kernels(torch.tensor([sigma]), KERNEL_SIZE)[0]
        estimated = upscaler(degrade_image(hr, true, scale)).kernel
        columns.append(np.concatenate([kernel_picture(kernel, 126) for kernel in (estimated, true.numpy())]))
        labels.append(f"{photo.stem}, {sigma:.2f}: {kernel_error(estimated, true.numpy()):.2f}")
    write_image(path, side_by_side(columns, labels))
