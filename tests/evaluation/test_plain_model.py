"""The baseline of timings gives the model's own result, and runs the Estimator once less."""

import numpy as np
import pytest
import torch
from support.networks import tiny_config

import dan_fast
from dan_fast.evaluation.plain_model import last_sr, upscale_plainly


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_last_sr_leaves_out_the_last_estimator_only(version):
    changes = {"groups": 0} if version == "v1" else {}
    model = dan_fast.DAN(tiny_config(version=version, **changes)).eval()
    passes = []
    model.Estimator.register_forward_hook(lambda *_: passes.append("Estimator"))
    lr = torch.rand(2, 3, 12, 10)
    assert torch.equal(last_sr(model, lr), model(lr).sr)
    assert len(passes) == 2 * model.config.iterations - 1


def test_upscales_8_bit_images_as_the_upscaler_does(tiny_model):
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 10, 3), np.uint8)
    for image, plain in zip(images, upscale_plainly(tiny_model, images), strict=True):
        ours = dan_fast.Upscaler(tiny_model)(image).image
        assert plain.shape == ours.shape and np.abs(plain.astype(int) - ours).max() <= 1
