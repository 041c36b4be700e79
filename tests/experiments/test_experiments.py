"""The networks of every experiment differ in what they should, and in nothing else."""

from dataclasses import replace

import pytest
import torch

from dan_fast.experiments import EXPERIMENTS
from dan_fast.experiments.block import Concatenating
from dan_fast.experiments.budget import work
from dan_fast.experiments.end_to_end import losses_apart, losses_with_estimate
from dan_fast.experiments.experiment import TINY, blind
from dan_fast.experiments.inputs import LowResolutionOnly
from dan_fast.experiments.recipe import charbonnier
from dan_fast.experiments.runner import multiply_adds
from dan_fast.experiments.supervision import CodeOnly
from dan_fast.model import DAN
from dan_fast.training.presets import get_preset
from dan_fast.training.step import losses, squared

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = TINY.config


def images():
    return torch.rand(2, 3, 12, 12), torch.rand(2, 3, 48, 48), torch.rand(2, 21, 21).softmax(1)


def test_the_estimator_of_inputs_does_not_see_the_restored_image():
    lr, _, _ = images()
    for build, sees in ((DAN, True), (LowResolutionOnly, False)):
        model = build(CONFIG)
        before = model(lr, 1).kernel
        with torch.no_grad():
            model.Restorer.fusion.weight.mul_(3)
        assert torch.equal(before, model(lr, 1).kernel) is not sees
    assert {n: t.shape for n, t in DAN(CONFIG).state_dict().items()} == {
        n: t.shape for n, t in LowResolutionOnly(CONFIG).state_dict().items()}


@pytest.mark.parametrize(("loss", "of_kernel"), [(losses_with_estimate, False), (losses_apart, True)])
def test_two_steps_learn_from_their_own_loss_alone(loss, of_kernel):
    model = DAN(CONFIG)
    lr, hr, kernel = images()
    found = loss(model, lr, hr, kernel, 4)
    for own, parts in ((found.sr, model.Restorer), (found.kernel, model.Estimator)):
        model.zero_grad()
        own.backward(retain_graph=True)
        learned = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
        assert learned == {"Restorer" if parts is model.Restorer else "Estimator"}
    # Only the Restorer of the bound is shown the true kernel.
    other = loss(model, lr, hr, kernel.flip(1, 2).roll(3, 2), 4)
    assert torch.equal(found.sr, other.sr) is not of_kernel


@pytest.mark.parametrize(("config", "ratio"), [(CONFIG, 1.08), (get_preset("v2-0.3M-x4").config, 1.01)])
def test_networks_of_block_cost_what_the_pages_say(config, ratio):
    dpcb, crb = (multiply_adds(build(config), blind) for build in (DAN, Concatenating))
    assert crb / dpcb == pytest.approx(ratio, abs=0.005)


def test_networks_of_block_see_the_kernel():
    crb, lr = Concatenating(CONFIG), torch.rand(1, 3, 12, 12)
    assert not torch.equal(crb.Restorer(lr, torch.zeros(1, 10)), crb.Restorer(lr, torch.ones(1, 10)))
    out = crb(lr)
    assert out.kernel.shape == (1, 21, 21) and out.kernel.sum().item() == pytest.approx(1, abs=1e-5)


def test_supervision_learns_from_the_code():
    model = CodeOnly(CONFIG)
    lr, hr, kernel = images()
    out = model(lr)
    assert out.kernel is None and out.code.shape == (2, 10)
    expected = (out.code - model.encode(kernel)).abs().mean()
    assert torch.allclose(losses(model, lr, hr, kernel, 4).kernel, expected)


def test_blur_trains_one_network_on_two_blurs():
    isotropic, irregular = EXPERIMENTS["blur"](TINY).variants
    assert isotropic.preset.config == irregular.preset.config and isotropic.preset.config.kernel_size == 31
    kernels = [v.preset.degradation.kernels(50, torch.Generator().manual_seed(0)) for v in (isotropic, irregular)]
    assert [torch.allclose(k, k.transpose(1, 2), atol=1e-6) for k in kernels] == [True, False]


def test_the_recipe_changes_one_thing_at_the_same_cost():
    first, *others = EXPERIMENTS["recipe"](TINY).variants
    assert first.preset == TINY and first.loss is None
    for variant in others:
        assert (variant.loss is None) is (variant.preset != TINY)
        assert work(variant.preset) == pytest.approx(work(TINY), rel=2e-3)
    longer = replace(TINY, config=replace(TINY.config, iterations=6), training=replace(TINY.training, short_until=0))
    # A step of n iterations: n forward and two more for the backward pass; of half 2 and half 4: 5 on average.
    assert work(longer) / work(TINY) == pytest.approx(8 / 5)
    everywhere = replace(longer, config=replace(longer.config, gradient="all"))
    assert work(everywhere) / work(longer) == pytest.approx((6 + 5 + 12) / 8)


def test_losses_of_the_recipe():
    model = DAN(CONFIG)
    lr, hr, kernel = images()
    expected = losses(model, lr, hr, kernel, 2)
    for distance in (squared, charbonnier):
        found = losses(model, lr, hr, kernel, 2, distance)
        assert torch.equal(found.kernel, expected.kernel) and not torch.equal(found.sr, expected.sr)
    error = torch.tensor([0.0, 3e-3, -4e-3])
    assert squared(error).item() == pytest.approx(25e-6 * 10 / 3)
    assert charbonnier(error).item() == pytest.approx((1e-3 + 10e-6**0.5 + 17e-6**0.5) / 3)


def test_more_iterations_are_more_work():
    trials = EXPERIMENTS["iterations"](TINY).variants[0].trials
    assert len(trials) == 8
    costs = [multiply_adds(DAN(CONFIG), trial.predict) for trial in trials]
    assert costs == pytest.approx([costs[0] * count for count in range(1, 9)], rel=1e-3)
