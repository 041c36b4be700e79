"""``Upscaler`` against the plain model, ms per image: what the whole of dan_fast gains on this machine.

    pytest benchmarks/bench_upscale.py --benchmark-json=out.json
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dan_fast


@pytest.fixture(scope="module")
def model():
    return dan_fast.load("default")


@pytest.mark.parametrize("side", [64, 128, 256])
def test_upscale(compare, model, side):
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    upscaler = dan_fast.Upscaler(model)

    def plain() -> np.ndarray:
        lr = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        sr = model(lr).sr[0].clamp(0, 1).mul(255).round().byte()
        return sr.permute(1, 2, 0).numpy()

    compare(lambda: upscaler(image), plain, rounds=5, shape=[side, side, 3], weights="default", dtype="float32",
            device="cpu")
