"""Test images of random blocks, and bicubic in the place of an upscaler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from dan_fast.evaluation.measure import bicubic
from dan_fast.image_files import write_image

FLAT_KERNEL = np.full((21, 21), 1 / 441, np.float32)


def write_random(path: Path, height: int = 50, width: int = 46, seed: int = 0) -> None:
    """Write an image of random blocks of 4x4 pixels."""
    image = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    write_image(path, np.kron(image, np.ones((4, 4, 1), np.uint8))[:height, :width])


def write_set(folder: Path) -> Path:
    """Write two small images to ``folder`` and return it."""
    for number in range(2):
        write_random(folder / f"{number}.png", seed=number)
    return folder


def bicubic_upscaler(scale: int) -> Callable[[np.ndarray], SimpleNamespace]:
    """An upscaler that returns bicubic and always the same kernel."""
    return lambda lr: SimpleNamespace(image=bicubic(lr, scale), kernel=FLAT_KERNEL)
