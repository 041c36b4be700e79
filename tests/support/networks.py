"""Networks small enough for tests."""

from __future__ import annotations

import dan_fast


def tiny_config(**changes) -> dan_fast.DANConfig:
    """A v2 of a few thousand parameters."""
    return dan_fast.DANConfig(**{
        "channels": 16, "groups": 1, "blocks": 1, "estimator_channels": 16, "estimator_blocks": 1,
        "upsampler": "direct", "group_residual": "plain", **changes})
