"""The two-step baseline with corrections: its parts, its loop and its cost."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dan_fast.experiments.budget import joint_step, work
from dan_fast.experiments.corrector import Correcting, corrected, correcting_step, losses_corrected
from dan_fast.experiments.end_to_end import end_to_end
from dan_fast.experiments.experiment import TINY, blind
from dan_fast.experiments.runner import multiply_adds
from dan_fast.model import DAN
from dan_fast.training.presets import get_preset

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = TINY.config


def network():
    model = Correcting(CONFIG)
    with torch.no_grad():  # a new corrector corrects nothing
        model.Corrector.tail[2].weight.normal_(0, 0.1)
    return model


def images():
    return torch.rand(2, 3, 12, 12), torch.rand(2, 3, 48, 48), torch.rand(2, 21, 21).softmax(1)


def test_a_new_corrector_corrects_nothing():
    lr = torch.rand(1, 3, 12, 12)
    model = Correcting(CONFIG)
    code = model.encode(model.predict(lr))
    assert torch.equal(model.correct(lr, code), code)


def test_the_corrector_sees_image_and_code():
    model = network()
    sr, code = torch.rand(2, 3, 48, 48), torch.rand(2, 10)
    found = model.Corrector(sr, code)
    assert found.shape == (2, 10)
    assert not torch.equal(found, model.Corrector(sr.flip(0), code))
    assert not torch.equal(found, model.Corrector(sr, code.flip(0)))


def test_there_is_a_correction_between_every_two_images():
    model, (lr, _, kernel) = network().eval(), images()
    code = model.encode(model.predict(lr))
    for _ in range(3):
        code = code + model.Corrector(model.Restorer(lr, code), code)
    out = corrected(model, lr, kernel)
    assert torch.allclose(out.code, code) and torch.allclose(out.sr, model.Restorer(lr, code)) and out.kernel is None


def test_each_part_learns_from_its_own_loss_alone():
    model, (lr, hr, kernel) = network(), images()
    found = losses_corrected(model, lr, hr, kernel, 4)
    for loss, expected in ((found.sr, {"Restorer"}), (found.kernel, {"Estimator", "Corrector"})):
        model.zero_grad()
        loss.backward(retain_graph=True)
        assert {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None} == expected
    # The predictor learns as if there were no corrector, and the corrector does not move it.
    model.zero_grad()
    found.kernel.backward()
    learned = model.Estimator.head_LR[0].weight.grad.clone()
    model.zero_grad()
    (model.predict(lr) - kernel).abs().mean().backward()
    assert torch.allclose(learned, model.Estimator.head_LR[0].weight.grad, atol=1e-7)


@pytest.mark.parametrize(("iterations", "corrections"), [(1, 1), (2, 1), (4, 3)])
def test_it_learns_from_the_last_of_the_corrections_that_the_test_makes(iterations, corrections):
    model, (lr, hr, kernel) = network(), images()
    estimate = model.predict(lr)
    code, true = model.encode(estimate), model.encode(kernel)
    for _ in range(corrections):
        code = model.correct(lr, code)
    expected = (estimate - kernel).abs().mean() + (code - true).abs().mean()
    assert losses_corrected(model, lr, hr, kernel, iterations).kernel.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("preset", [TINY, get_preset("v2-0.3M-x4")])
def test_it_costs_what_dan_costs(preset):
    joint, *_, variant = end_to_end(preset).variants
    assert variant.name == "corrected"
    with torch.no_grad():
        in_test = [multiply_adds(DAN(preset.config), blind), multiply_adds(Correcting(preset.config), corrected)]
    assert in_test[1] / in_test[0] == pytest.approx(1, abs=0.05)
    assert work(variant.preset, correcting_step) == pytest.approx(work(joint.preset), rel=2e-3)
    assert variant.preset.training.steps != joint.preset.training.steps
    assert replace(variant.preset.training, steps=joint.preset.training.steps) == joint.preset.training


@pytest.mark.parametrize("iterations", [2, 4])
def test_work_is_what_a_step_takes(iterations):
    """Forward and backward pass, counted by torch. A backward pass leaves out the gradients of the images."""
    model, side = network().eval(), 32
    lr, hr = torch.rand(1, 3, side, side), torch.rand(1, 3, 4 * side, 4 * side)
    kernel = torch.rand(1, 21, 21).softmax(1)
    with FlopCounterMode(display=False) as counter:
        found = losses_corrected(model, lr, hr, kernel, iterations)
        (found.sr + found.kernel).backward()
    assert counter.get_total_flops() / 2 / side**2 == pytest.approx(correcting_step(CONFIG, iterations), rel=0.12)
    assert joint_step(CONFIG, 4) == pytest.approx(6 / 4 * multiply_adds(DAN(CONFIG), blind), rel=0.02)
