"""The weights that ship: they load, have a card, and do what the card says."""

import pytest
import torch

import dan_fast
from dan_fast.checkpoint import DEFAULT, WEIGHTS
from dan_fast.evaluation.degraded_set import PROTOCOLS, DegradedSet, images_below, isotropic
from dan_fast.evaluation.measure import mean, measure
from dan_fast.files import SAMPLES

NAMES = [name for name in dan_fast.available() if name != "default"]


@pytest.mark.parametrize("name", NAMES)
def test_every_network_loads_and_has_a_card(name):
    model = dan_fast.load(name)
    assert model(torch.rand(1, 3, 16, 16)).sr.isfinite().all()
    card = (WEIGHTS / f"{name}.md").read_text()
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in card
    for word in ("Data", "Steps", "Licence", "Not good at"):
        assert word in card, word


def test_default_is_the_best_at_x4():
    assert DEFAULT in NAMES and dan_fast.load("default").config.scale == 4


@pytest.mark.parametrize(("name", "sigma"), [("v2-0.3M-x4", 2.4), ("v2-0.3M-irregular-x4", 2.4), ("v2-0.3M-x3", 1.8),
                                             ("v2-0.3M-x2", 1.2), ("v2-0.3M-irregular-x2", 1.6)])
def test_networks_beat_bicubic_and_find_the_kernel(name, sigma):
    model = dan_fast.load(name)
    degraded = DegradedSet("samples", images_below([SAMPLES]), model.config.scale, isotropic(sigma))
    rows = measure(degraded, dan_fast.Upscaler(model))
    assert mean(rows, "psnr_y") > mean(rows, "bicubic_psnr_y") + 2
    assert mean(rows, "kernel_error") < 0.4


@pytest.mark.parametrize("scale", [2, 4])
def test_irregular_blur_is_for_the_network_that_learned_it(scale):
    degraded = DegradedSet("samples", images_below([SAMPLES]), scale, PROTOCOLS["irregular"])
    irregular, isotropic = (measure(degraded, dan_fast.Upscaler(dan_fast.load(name)))
                            for name in (f"v2-0.3M-irregular-x{scale}", f"v2-0.3M-x{scale}"))
    assert mean(irregular, "psnr_y") > mean(isotropic, "psnr_y")
    assert mean(irregular, "kernel_error") < min(0.5, mean(isotropic, "kernel_error"))


def test_default_reaches_its_figure_on_set5(shared):
    """One kernel of the eight of the full protocol."""
    degraded = DegradedSet("Set5", images_below([shared / "data" / "Set5"]), 4, isotropic(2.4))
    assert mean(measure(degraded, dan_fast.Upscaler(dan_fast.load("default"))), "psnr_y") > 29.8
