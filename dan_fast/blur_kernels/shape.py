"""The width of a kernel and its direction."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class KernelShape(NamedTuple):
    """The Gaussian with the kernel's second moments.

    Attributes:
        major, minor: its standard deviations along and across its long axis, pixels.
        angle: from the direction to the right to the long axis, counter-clockwise, degrees in [0, 180).
    """

    major: float
    minor: float
    angle: float

    @property
    def sigma(self) -> float:
        """The standard deviation of the round Gaussian of the same area, pixels."""
        return math.sqrt(self.major * self.minor)

    def __str__(self) -> str:
        return f"sigma {self.major:.2f} x {self.minor:.2f} pixels of the sharp image, at {self.angle:.0f} degrees"


def kernel_shape(kernel: np.ndarray) -> KernelShape:
    """Measure ``kernel`` (k, k), which has no negative taps and any positive sum."""
    weights = np.asarray(kernel, dtype=np.float64)
    weights = weights / weights.sum()
    down, right = np.indices(weights.shape)
    offsets = np.stack((right, -down)).reshape(2, -1)
    offsets = offsets - offsets @ weights.reshape(-1, 1)  # around the centre of gravity
    variances, axes = np.linalg.eigh((offsets * weights.reshape(-1)) @ offsets.T)
    minor, major = np.sqrt(np.maximum(variances, 0))
    angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1])) % 180
    return KernelShape(float(major), float(minor), float(angle))
