"""The operator ``crb_stack``: the compiled code against the reference in float64, and its place in PyTorch."""

from __future__ import annotations

import pytest
import torch
from support.networks import tiny_config
from support.stacks import StackTests, draw

from dan_fast.errors import DanFastError
from dan_fast.fast_model.v1 import crb_weights
from dan_fast.model.estimator import EstimatorV1
from dan_fast.model.restorer import RestorerV1
from dan_fast.ops import backend, crb_stack
from dan_fast.ops.crb_stack import CRBWeights, crb_stack_ref

PLANES, IMAGE = {"image": False, "condition": 10}, {"image": True, "condition": 16}


def case(batch, channels, height, width, blocks=3, image=False, condition=10):
    """x, z, weights: weights of the code are as large as trained ones, and a block changes x by about a third."""
    both, squeezed = channels + condition, max(channels // 16, 1)
    shapes = ((both, both, 3, 3), (both,), (channels, both, 3, 3), (channels,), (squeezed, channels, 1, 1), (squeezed,),
              (channels, squeezed, 1, 1), (channels,))
    lists = [[draw(*shape) for _ in range(blocks)] for shape in shapes]
    for weight in lists[2]:
        weight *= 0.5
    z = torch.randn(batch, condition, height, width) if image else torch.randn(batch, condition)
    return torch.randn(batch, channels, height, width), z, CRBWeights(*lists)


class TestCrbStack(StackTests):
    op, reference, case = staticmethod(crb_stack), staticmethod(crb_stack_ref), staticmethod(case)
    registered = torch.ops.dan_fast.crb_stack.default
    variants = PLANES, IMAGE, {"image": True, "condition": 5, "blocks": 1}

    def module(self):
        return RestorerV1(tiny_config(version="v1", groups=0, channels=16, blocks=2))

    def changed(self, module):
        return module.body[1].body[2]

    def arguments(self, module, x):
        return x, torch.randn(len(x), 10), crb_weights(module)

    def flat(self, arguments):
        x, z, weights = arguments
        return x, z, *weights

    @pytest.mark.parametrize("channels, condition, image", [(64, 10, False), (64, 15, False), (32, 32, True)])
    def test_errs_as_winograd_does(self, native, channels, condition, image):
        """The published bodies: 40 blocks of 64 channels with a code, 5 blocks of 32 with an image."""
        self.assert_errs_as_winograd_does(case(1, channels, 21, 18, 5 if image else 40, image, condition))


@pytest.mark.parametrize("height, width", [(1, 1), (1, 9), (9, 1), (2, 2), (5, 3)])
def test_the_border_of_a_constant_condition(native, height, width):
    """A condition (B, Cz) gives the same result as an image of it."""
    x, z, weights = case(2, 16, height, width, condition=7)
    image = z[:, :, None, None].expand(-1, -1, height, width)
    torch.testing.assert_close(crb_stack(x, z * 10, weights), crb_stack(x, image * 10, weights), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["torch", "cpp"])
def test_is_the_body_of_both_networks(native, name):
    config = tiny_config(version="v1", groups=0, channels=16, blocks=2, estimator_channels=16)
    restorer, estimator = RestorerV1(config), EstimatorV1(config)
    lr, code, sr = torch.rand(2, 3, 7, 9), torch.randn(2, config.code_length), torch.rand(2, 3, 7 * 4, 9 * 4)
    with torch.no_grad(), backend(name, "torch"):
        body = crb_stack(restorer.head(lr), code, crb_weights(restorer))
        torch.testing.assert_close(restorer.reconstruct(lr, body), restorer(lr, code), rtol=1e-5, atol=1e-5)
        body = crb_stack(estimator.head_LR(lr), estimator.head_HR(sr), crb_weights(estimator))
        torch.testing.assert_close(estimator.out(body).mean((2, 3)), estimator(sr, lr), rtol=1e-5, atol=1e-5)


def test_too_many_channels(native):
    arguments = case(1, 64, 5, 5, condition=31)
    with backend("cpp"), pytest.raises(DanFastError, match=r"C \+ Cz is 95 and the extension takes up to 80"):
        crb_stack(*arguments)
    torch.testing.assert_close(crb_stack(*arguments), crb_stack_ref(*arguments))


@pytest.mark.parametrize("change, says", [
    ({"z": torch.rand(2, 9)}, r"weight1\[0\] has E=26 channels, expected C \+ Z = 16 \+ 9"),
    ({"z": torch.rand(3, 10)}, r"z has shape \(3, 10\), expected \(2, 10\)"),
    ({"z": torch.rand(2, 10, 5, 6)}, r"z has shape \(2, 10, 5, 6\), expected \(2, 10, 5, 5\)"),
    ({"z": torch.rand(10)}, r"z has shape \(10,\)"),
    ({"squeeze": [torch.rand(1, 8, 1, 1)] * 3}, r"squeeze\[0\] has shape \(1, 8, 1, 1\), expected \(1, 16, 1, 1\)"),
    ({"bias2": [torch.rand(16)]}, "bias2 has 1 tensors for 3 blocks"),
])
def test_wrong_arguments_are_named(change, says):
    x, z, weights = case(2, 16, 5, 5)
    weights = weights._replace(**{name: value for name, value in change.items() if name != "z"})
    with pytest.raises(ValueError, match=says):
        crb_stack(x, change.get("z", z), weights)
