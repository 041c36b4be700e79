"""Images that look a little like photos."""

from __future__ import annotations

import numpy as np


def photo(height: int, width: int, channels: int = 3, dtype: type = np.uint8, seed: int = 0) -> np.ndarray:
    """Smooth shapes and noise, different everywhere: (height, width, channels), or (height, width) with 1 channel."""
    random = np.random.default_rng(seed)
    down, right = np.mgrid[:height, :width]
    waves = np.stack([np.sin(down / (3 + c)) + np.cos(right * down / 900 + c) for c in range(channels)], 2)
    values = np.clip(0.5 + 0.2 * waves + 0.05 * random.standard_normal(waves.shape), 0, 1)
    image = np.rint(values * np.iinfo(dtype).max).astype(dtype)
    return image[..., 0] if channels == 1 else image
