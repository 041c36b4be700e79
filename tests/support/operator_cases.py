"""The networks and shapes whose operators are tested on a GPU; benchmarks/gpu_cache.py compiles them beforehand."""

from __future__ import annotations

import torch

from dan_fast import DANConfig
from dan_fast.ops import example_calls

_TINY = {"groups": 2, "blocks": 2, "estimator_blocks": 2}
NETWORKS = {
    "v2": DANConfig(channels=64, estimator_channels=32, group_residual="doubled", upsampler="published", **_TINY),
    "v2-plain": DANConfig(channels=32, estimator_channels=16, kernel_size=31, code_length=15, group_residual="plain",
                          upsampler="direct", **_TINY),
    "v1": DANConfig(version="v1", channels=64, blocks=1, estimator_blocks=1),
}
# Batch, height and width. Few, as each is compiled anew. The upsampler takes no image below 3x3.
SHAPES = [((1, 3, 3), torch.float32), ((3, 13, 17), torch.float32), ((2, 64, 48), torch.bfloat16),
          ((2, 3, 5), torch.float16)]


def compute_all(config: DANConfig, shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> None:
    """Compute every example call of a network once, with gradients, so that nothing is compiled later."""
    for call in example_calls.calls(config, *shape, dtype, device):
        example_calls.compute(call, True)
