"""Counted multiplications against those that PyTorch counts while the model runs."""

from __future__ import annotations

import pytest
import torch
from support.networks import REFINER, tiny_config
from torch.utils.flop_counter import FlopCounterMode

from dan_fast.config import DANConfig
from dan_fast.fast_model import cost
from dan_fast.model import DAN


@pytest.mark.parametrize("upsampler", ["published", "direct"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("network", ["v1", "v2", "v2 with a Refiner"])
def test_published(network, scale, upsampler):
    version, _, refiner = network.partition(" ")
    config = tiny_config(version=version, groups=2 if version == "v2" else 0, blocks=2, scale=scale,
                         upsampler=upsampler, estimator_blocks=2, iterations=3, **(REFINER if refiner else {}))
    model = DAN(config).eval()

    def counted(size):
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model(torch.rand(1, 3, size, size))
        return counter.get_total_flops() / 2
    # Costs that do not grow with the image fall out.
    per_pixel = (counted(24) - counted(12)) / (24**2 - 12**2)
    assert per_pixel == pytest.approx(cost.published(config), rel=1e-9)


def test_the_published_networks():
    v2 = cost.published(DANConfig())
    assert v2 == pytest.approx(18.9e6, rel=0.01)  # the figure that people know
    fast = cost.planned(DANConfig(), wants_kernel=True, winograd=True)
    assert fast < 0.25 * v2
    assert cost.planned(DANConfig(), wants_kernel=False, winograd=True) < fast
    assert fast < cost.planned(DANConfig(), wants_kernel=True, winograd=False) < v2


def test_the_refiner_is_computed_once_per_image():
    config, plain = tiny_config(**REFINER), tiny_config()
    for winograd in (False, True):
        refined, before = (cost.planned(c, wants_kernel=True, winograd=winograd) for c in (config, plain))
        layers = cost.refiner(config)
        share = cost.WINOGRAD if winograd else 1
        expected = layers["head"] + layers["upsampler"] + share * (layers["body"] + layers["fusion"])
        assert refined - before == pytest.approx(expected)
    assert cost.refiner(plain) == {}
