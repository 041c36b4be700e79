"""Networks of an experiment compute the same with operators, while they are trained, as with plain modules."""

import copy

import pytest
import torch

from dan_fast.experiments.corrector import Correcting, losses_corrected
from dan_fast.experiments.end_to_end import losses_apart, losses_with_estimate
from dan_fast.experiments.experiment import TINY
from dan_fast.experiments.inputs import LowResolutionOnly
from dan_fast.experiments.supervision import CodeOnly
from dan_fast.model import DAN
from dan_fast.training.step import losses

pytestmark = pytest.mark.usefixtures("one_thread")
NETWORKS = {
    "LR only": (LowResolutionOnly, losses), "code": (CodeOnly, losses), "two steps": (DAN, losses_with_estimate),
    "true kernels": (DAN, losses_apart), "corrections": (Correcting, losses_corrected),
}


def gradients(model, loss_of, inputs):
    """The losses and the gradients of all parameters that have one, by name."""
    loss = loss_of(model, *inputs, 3)
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss.sr + 10 * loss.kernel, parameters, allow_unused=True)
    return {"sr": loss.sr.detach(), "kernel": loss.kernel.detach(),
            **{name: gradient for name, gradient in zip(names, found, strict=True) if gradient is not None}}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(9, 13), (16, 16)])
def test_losses_and_gradients_are_those_of_the_modules(name, size):
    build, loss_of = NETWORKS[name]
    model = build(TINY.config).double()
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    height, width = size
    inputs = [torch.rand(3, 3, width, height).mT.double(), torch.rand(3, 3, 4 * height, 4 * width).double(),
              torch.rand(3, 21, 21).double().softmax(1) / 21]
    expected = gradients(copy.deepcopy(model).eval(), loss_of, inputs)

    def called(*arguments):
        raise AssertionError("the module ran")
    model.Restorer.register_forward_hook(called)
    found = gradients(model.train(), loss_of, inputs)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-8, atol=1e-11, msg=key)
    with pytest.raises(AssertionError, match="the module ran"):
        gradients(model.eval(), loss_of, inputs)
