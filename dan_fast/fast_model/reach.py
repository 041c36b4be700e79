"""How far a network sees: the pixels of ``lr`` that it takes one pixel's share in the kernel from."""

from __future__ import annotations

import math

from ..config import DANConfig
from .versions import parts_of

_FUSION = 1  # a 3x3 convolution


def network_reach(config: DANConfig) -> int:
    """How many LR pixels away a pixel's share in the estimated kernel still depends on ``lr``.

    Its part of the result depends on less. v1's channel attention, which averages over the image, is left out.
    """
    reach = parts_of(config).reach(config)
    return reach.restorer + _FUSION + _upsampler_reach(config, reach.estimator_head) + reach.estimator


def _upsampler_reach(config: DANConfig, hr: int) -> int:
    """How many LR pixels away the features matter for the result within ``hr`` HR pixels around a pixel.

    That is a 3x3 convolution of LR pixels and, in the published upsampler, one of HR pixels at the end; the one
    between them at x4 reaches no further. The bicubic image beside the direct one sees less than the Restorer does.
    """
    at_the_end = 1 if config.upsampler == "published" else 0
    return 1 + math.ceil((hr + at_the_end) / config.scale)
