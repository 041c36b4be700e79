"""How many multiplications a network takes: as its papers write it, and as it is computed here.

Counted for each pixel of the low-resolution image, far from the border, without what a whole image has only once.
"""

from __future__ import annotations

from ..config import DANConfig

# F(4x4, 3x3): 36 multiplications for 16 pixels instead of 144 (Lavin and Gray, arXiv 1509.09308).
WINOGRAD = 36 / 144


def restorer(config: DANConfig) -> dict[str, float]:
    """By part, of one pass as the papers write it."""
    channels, image, s = config.channels, config.image_channels, config.scale
    both = channels + config.code_length
    block = 9 * both * (both + channels) if config.version == "v1" else 18 * channels**2
    return {"head": 9 * image * channels, "body": config.blocks * max(1, config.groups) * block,
            "fusion": 9 * channels**2, "upsampler": _upsampler(config, image, s)}


def _upsampler(config: DANConfig, image: int, s: int) -> float:
    channels = config.channels
    if config.upsampler == "direct":
        return 9 * channels * image * s**2
    growing = 9 * channels * 4 * channels * (1 + 4) if s == 4 else 9 * channels * channels * s**2
    return growing + 9 * channels * image * s**2


def estimator(config: DANConfig) -> dict[str, float]:
    """By part, of one pass as the papers write it."""
    width, image, s = config.estimator_channels, config.image_channels, config.scale
    if config.version == "v1":
        return {"head of lr": image * width, "head": 81 * image * width,
                "body": config.estimator_blocks * 9 * 2 * width * 3 * width, "tail": 9 * width * config.code_length}
    return {"head of lr": 25 * image * width, "head": (4 * s + 1) ** 2 * image * width,
            "body": config.estimator_blocks * 36 * width**2, "tail": 18 * width**2}


def published(config: DANConfig) -> float:
    """Of all iterations as the papers write them."""
    return config.iterations * (sum(restorer(config).values()) + sum(estimator(config).values()))


def planned(config: DANConfig, *, kernel: bool, winograd: bool) -> float:
    """Of all iterations as ``dan_fast.fast_model.plan`` computes them.

    Args:
        kernel: whether the last kernel is wanted.
        winograd: whether the blocks' convolutions take fewer multiplications: on a CPU in float32.
    """
    share = WINOGRAD if winograd else 1
    r, e = restorer(config), estimator(config)
    if config.version == "v1":  # its constant planes are no part of the convolution
        r["body"] = config.blocks * 18 * config.channels * (config.channels + config.code_length)
    upsampler = r["upsampler"]
    if config.upsampler == "published":
        upsampler = 25 * config.channels * config.image_channels * config.scale**2
    once = r["head"] + e["head of lr"]
    restored = share * (r["body"] + r["fusion"]) + upsampler
    estimated = e["head"] + share * e["body"]
    return once + config.iterations * restored + (config.iterations - 1 + kernel) * estimated
