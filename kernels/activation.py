"""The activation that GPU kernels have in common."""

import triton.language as tl

SLOPE = tl.constexpr(0.2)
"""Slope of the leaky ReLU in every block, for negative values: ``dan_fast.ops.layout.SLOPE``."""
