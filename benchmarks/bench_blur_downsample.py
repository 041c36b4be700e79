"""The compiled ``blur_downsample`` against its reference (grouped convolution, then resize) on the CPU.

    pytest benchmarks/bench_blur_downsample.py --benchmark-json=out.json
"""

from __future__ import annotations

import dan_fast_kernels
import pytest
import torch

from dan_fast.degradation import gaussian_kernels
from dan_fast.ops import blur_downsample
from dan_fast.ops.blur_downsample import blur_downsample_ref

SHAPE = (16, 3, 256, 256)


@pytest.mark.parametrize("k, scale", [(21, 4), (11, 2)])
def test_blur_downsample(compare, k, scale):
    if dan_fast_kernels.EXTENSION is None:
        pytest.skip(f"the extension is not built: {dan_fast_kernels.WHY_NOT}")
    hr, kernel = torch.rand(SHAPE), gaussian_kernels(torch.rand(SHAPE[0]) * 2 + 1, k)
    compare(lambda: blur_downsample(hr, kernel, scale), lambda: blur_downsample_ref(hr, kernel, scale),
            shape=list(SHAPE), kernel_size=k, scale=scale, dtype=str(hr.dtype), device="cpu")
