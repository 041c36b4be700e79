"""The distance that a network sees in ``lr``. v1's channel attention, which averages over the image, is left out."""

from __future__ import annotations

import math

from ..config import DANConfig
from .versions import parts_of

_FUSION = 1  # a 3x3 convolution
_UPSAMPLER = 2  # at most


def restorer_reach(config: DANConfig) -> int:
    """The distance in LR pixels beyond which the Restorer's result does not depend on ``lr``."""
    return parts_of(config).reach(config).restorer + _FUSION + _UPSAMPLER


def result_reach(config: DANConfig) -> int:
    """The distance in LR pixels beyond which the result, refined if the network does that, does not depend on ``lr``.
    """
    if config.refiner is None:
        return restorer_reach(config)
    # Its head is a 3x3 convolution, as a Restorer's is, and so is its upsampler.
    refined = parts_of(config.refiner).reach(config.refiner).restorer + _FUSION + 1
    return restorer_reach(config) + refined


def network_reach(config: DANConfig) -> int:
    """The largest distance in LR pixels at which the result, or a pixel's share in the estimated kernel, depends on
    ``lr``."""
    reach = parts_of(config).reach(config)
    estimate = reach.restorer + _FUSION + _upsampler_reach(config, reach.estimator_head) + reach.estimator
    return max(estimate, result_reach(config))


def _upsampler_reach(config: DANConfig, hr: int) -> int:
    """The distance in LR pixels up to which the upsampler's input matters, for a window of ``hr`` HR pixels around.

    That is a 3x3 convolution of LR pixels and, in the published upsampler, one of HR pixels at the end; the one
    between them at x4 reaches no further. The bicubic image beside the direct one sees less than the Restorer does.
    """
    at_the_end = 1 if config.upsampler == "published" else 0
    return 1 + math.ceil((hr + at_the_end) / config.scale)
