"""Networks small enough for tests."""

from __future__ import annotations

import torch

import dan_fast

# A Refiner unlike the Restorer of ``tiny_config``: wider, and with another number of groups and blocks.
REFINER = {"refiner_channels": 32, "refiner_groups": 2, "refiner_blocks": 3}


def tiny_config(**changes) -> dan_fast.DANConfig:
    """A v2 of a few thousand parameters."""
    return dan_fast.DANConfig(**{
        "channels": 16, "groups": 1, "blocks": 1, "estimator_channels": 16, "estimator_blocks": 1,
        "upsampler": "direct", "group_residual": "plain", **changes})


def tiny_network(**changes) -> dan_fast.DAN:
    """A network of ``tiny_config``. Its Refiner, if it has one, does more than nothing, which it does when it is new.
    """
    model = dan_fast.DAN(tiny_config(**changes))
    if model.Refiner is not None:
        for parameter in model.Refiner.upscale.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
    return model
