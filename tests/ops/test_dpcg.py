"""The operator ``dpcg``: the compiled code against the reference in float64, and its place in PyTorch."""

from __future__ import annotations

import pytest
import torch
from support.networks import tiny_config
from support.stacks import StackTests, draw

import dan_fast
from dan_fast.fast_model.v2 import dpcg_weights
from dan_fast.model.estimator import EstimatorV2
from dan_fast.ops import dpcg
from dan_fast.ops.dpcg import DPCGWeights, dpcg_ref


def case(batch, channels, height, width, blocks=3, residual="doubled"):
    """x, z, weights: f2 is small, so that a block changes x by about a third."""
    square = (channels, channels, 3, 3)
    lists = [[draw(*shape) for _ in range(blocks)] for shape in (square, (channels,)) * 4]
    for weight in lists[6]:
        weight *= 0.3
    x, z = torch.randn(2, batch, channels, height, width)
    return x, z, DPCGWeights(*lists, residual)


class TestDpcg(StackTests):
    op, reference, case = staticmethod(dpcg), staticmethod(dpcg_ref), staticmethod(case)
    registered = torch.ops.dan_fast.dpcg.default
    bound = 3e-6  # errors of both paths multiply
    variants = {"residual": "doubled"}, {"residual": "plain", "blocks": 1}

    def module(self):
        return EstimatorV2(tiny_config(estimator_channels=16, estimator_blocks=2))

    def changed(self, module):
        return module.body.body[1].body2[2]

    def arguments(self, module, x):
        return x, x.flip(3), dpcg_weights(module)

    def flat(self, arguments):
        x, z, weights = arguments
        return x, z, *weights

    def test_errs_as_winograd_does(self, native):
        """The published body: 5 blocks of 32 channels."""
        self.assert_errs_as_winograd_does(case(1, 32, 37, 45, 5))

    @pytest.mark.parametrize("name", dan_fast.available())
    def test_trained_weights(self, native, name):
        model = dan_fast.load(name)
        lr, sr = torch.rand(2, 3, 31, 26), torch.rand(2, 3, 31 * model.config.scale, 26 * model.config.scale)
        with torch.no_grad():
            heads = model.Estimator.head_LR(lr), model.Estimator.head_HR(sr)
            self.assert_errs_as_winograd_does((*heads, dpcg_weights(model.Estimator)))


def test_z_that_is_not_finite(native):
    x, z, weights = case(2, 16, 30, 30, blocks=1)
    z[1, 3, 20, 20] = float("nan")
    bad = ~dpcg_ref(x, z, weights).isfinite()
    found = dpcg(x, z, weights)
    assert bad.any() and found[bad].isnan().all()
    assert found[0].isfinite().all() and found[1, :, :4, :4].isfinite().all()


def test_leaves_its_arguments_alone(native):
    x, z, weights = case(1, 16, 9, 13)
    x, z = (image.contiguous(memory_format=torch.channels_last) for image in (x, z))
    before = x.clone(), z.clone()
    dpcg(x, z, weights)
    assert torch.equal(x, before[0]) and torch.equal(z, before[1])


@pytest.mark.parametrize("residual", ["doubled", "plain"])
def test_is_the_body_of_the_estimator(residual):
    estimator = EstimatorV2(tiny_config(group_residual=residual)).double()
    channels = estimator.head_LR[0].out_channels
    x, z = torch.randn(2, 2, channels, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(dpcg(x, z, dpcg_weights(estimator)), estimator.body(x, z)[0])


@pytest.mark.parametrize("change, says", [
    ({"z": torch.rand(2, 16, 5, 6)}, r"z has shape \(2, 16, 5, 6\), expected \(2, 16, 5, 5\)"),
    ({"z": torch.rand(2, 16, 1)}, r"z has shape \(2, 16, 1\)"),
    ({"z_weight2": [torch.rand(16, 16, 1, 1)] * 3}, r"z_weight2\[0\] has shape \(16, 16, 1, 1\), expected"),
    ({"z_bias1": [torch.rand(16)] * 2}, "z_bias1 has 2 tensors for 3 blocks"),
    ({"bias2": [torch.ones(16).long()] * 3}, r"bias2\[0\] is torch.int64, expected floating point"),
    ({"weight2": [torch.rand(16, 16, 3, 3).double()] * 3}, r"weight2\[0\] is torch.float64 and x torch.float32"),
    ({"group_residual": "triple"}, "group_residual='triple': expected one of 'doubled', 'plain'"),
])
def test_wrong_arguments_are_named(change, says):
    x, z, weights = case(2, 16, 5, 5)
    weights = weights._replace(**{name: value for name, value in change.items() if name != "z"})
    with pytest.raises(ValueError, match=says):
        dpcg(x, change.get("z", z), weights)
