"""Multiplications that a network takes: as its papers write them, and as they are computed here.

Counted per pixel of the low-resolution image, far from the border, without what an image has only once.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ..config import DANConfig
from .versions import parts_of

# F(4x4, 3x3): 36 multiplications for 16 pixels instead of 144 (Lavin and Gray, arXiv 1509.09308).
WINOGRAD = 36 / 144


def restorer(config: DANConfig) -> dict[str, float]:
    """One pass of the Restorer as the papers write it, by part."""
    return {"head": 9 * config.image_channels * config.channels, "body": parts_of(config).cost(config).restorer_body,
            "fusion": 9 * config.channels**2, "upsampler": _upsampler(config)}


def _upsampler(config: DANConfig) -> float:
    channels, image, s = config.channels, config.image_channels, config.scale
    if config.upsampler == "direct":
        return 9 * channels * image * s**2
    growing = 9 * channels * 4 * channels * (1 + 4) if s == 4 else 9 * channels * channels * s**2
    return growing + 9 * channels * image * s**2


def refiner(config: DANConfig) -> dict[str, float]:
    """The Refiner, by part: nothing without one."""
    if config.refiner is None:
        return {}
    seen = config.image_channels * (1 + config.scale**2)
    return {**restorer(config.refiner), "head": 9 * seen * config.refiner_channels}


@cache  # asked for at every call of an upscaler
def refiner_passes(config: DANConfig) -> int:
    """The number of iterations that take about as long as the Refiner; 0 without one."""
    return round(sum(refiner(config).values()) / _iteration(config))


def estimator(config: DANConfig) -> Mapping[str, float]:
    """One pass of the Estimator as the papers write it, by part."""
    return parts_of(config).cost(config).estimator


def published(config: DANConfig) -> float:
    """All iterations as the papers write them, and the Refiner."""
    return config.iterations * _iteration(config) + sum(refiner(config).values())


def _iteration(config: DANConfig) -> float:
    return sum(restorer(config).values()) + sum(estimator(config).values())


def planned(config: DANConfig, *, wants_kernel: bool, winograd: bool) -> float:
    """All iterations as ``dan_fast.fast_model.plan`` computes them.

    Args:
        wants_kernel: whether the last iteration estimates the kernel too.
        winograd: whether the blocks' convolutions take fewer multiplications, as on a CPU in float32.
    """
    share = WINOGRAD if winograd else 1
    r, e = restorer(config), estimator(config)
    upsampler = r["upsampler"]
    if config.upsampler == "published":  # one 5x5 convolution
        upsampler = 25 * config.channels * config.image_channels * config.scale**2
    once = r["head"] + e["head of lr"]
    restored = share * (parts_of(config).cost(config).planned_body + r["fusion"]) + upsampler
    estimated = e["head"] + share * e["body"]
    layers = refiner(config)
    refined = sum((share if part in ("body", "fusion") else 1) * cost for part, cost in layers.items())
    return once + config.iterations * restored + (config.iterations - 1 + wants_kernel) * estimated + refined
