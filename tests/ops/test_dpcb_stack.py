"""The operator ``dpcb_stack``: the compiled code against the reference in float64, and its place in PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from support.networks import tiny_config
from support.stacks import StackTests, doubled, draw

import dan_fast
from dan_fast.fast_model.dual_path import condition_weights, dpcb_weights
from dan_fast.model.restorer import RestorerV2
from dan_fast.ops import condition_path, dpcb_stack
from dan_fast.ops.dpcb_stack import DPCBWeights, dpcb_stack_ref


def case(batch, channels, height, width, blocks=2, groups=2, residual="doubled"):
    """x, modulation, weights: a block changes x by about a third."""
    count, square = blocks * groups, (channels, channels, 3, 3)
    lists = ([draw(*shape) for _ in range(count)] for shape in (square, (channels,)) * 2)
    return torch.randn(batch, channels, height, width), torch.rand(batch, count, channels) * 0.3, DPCBWeights(
        *lists, blocks, residual)


def by_position(x, modulation, weights):
    return x, weights, modulation


class TestDpcbStack(StackTests):
    op = staticmethod(lambda *arguments: dpcb_stack(*by_position(*arguments)))
    reference = staticmethod(lambda *arguments: dpcb_stack_ref(*by_position(*arguments)))
    registered = torch.ops.dan_fast.dpcb_stack.default
    variants = {"residual": "doubled"}, {"residual": "plain"}
    case = staticmethod(case)

    def module(self):
        return RestorerV2(tiny_config(groups=2, blocks=2))

    def changed(self, module):
        return module.body[1].body[0].body1[2]

    def arguments(self, module, x):
        return x, torch.rand(len(x), 4, 16), dpcb_weights(module)

    def flat(self, arguments):
        x, modulation, weights = arguments
        return x, modulation, *weights

    def test_errs_as_winograd_does(self, native):
        """The published body: 50 blocks of 64 channels."""
        self.assert_errs_as_winograd_does(case(1, 64, 21, 18, 10, 5))

    @pytest.mark.parametrize("name", dan_fast.available())
    def test_trained_weights(self, native, name):
        model = dan_fast.load(name)
        with torch.no_grad():
            x = model.Restorer.head1(torch.rand(2, 3, 31, 26))
            modulation = condition_path(torch.cat((model.init_ker_map, model.init_ker_map * 0.5)),
                                    *condition_weights(model.Restorer))
            self.assert_errs_as_winograd_does((x, modulation, dpcb_weights(model.Restorer)))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["x", "weights", "modulation"])
def test_what_is_not_finite_stays_near(native, value, where):
    x, modulation, weights = case(2, 16, 30, 30, blocks=1, groups=1)
    target, at = {"x": (x, (1, 3, 20, 20)), "weights": (weights.weight2[0], (3, 5, 0, 1)),
                  "modulation": (modulation, (1, 0, 7))
                  }[where]
    target[at] = value
    bad = ~dpcb_stack_ref(x, weights, modulation).isfinite()
    found = dpcb_stack(x, weights, modulation)
    assert bad.any() and (~found[bad].isfinite()).all()
    if where == "x":  # pixels far from it are as they are without
        assert found[0].isfinite().all() and found[1, :, :4, :4].isfinite().all()


def test_denormals(native):
    x, _, weights = case(1, 32, 9, 14)
    tiny = torch.full((1, 4, 32), 1e-3)
    for tensors in (weights.bias1, weights.bias2):
        for bias in tensors:
            bias.zero_()
    x = x * 1e-40
    found, exact = dpcb_stack(x, weights, tiny), dpcb_stack_ref(*doubled((x, weights, tiny)))
    assert found.abs().max() < 1.1e-38 and (found != 0).any()
    assert (found - exact).abs().max() <= 5e-44


def test_no_block_leaves_x_alone(native):
    """The public operator refuses this; the compiled one must not wait for steps that never come."""
    code = ("import torch, dan_fast_kernels\nassert dan_fast_kernels.EXTENSION\nx = torch.rand(2, 8, 8, 16)\n"
            "none = torch.empty(0, 36 * 16 * 16 + 16), torch.empty(2, 0, 16)\n"
            "assert torch.equal(torch.ops.dan_fast.dpcb_stack_cpp(x, *none, 1, True), x)")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_is_the_body_of_the_restorer(native):
    for residual in ("doubled", "plain"):
        restorer = RestorerV2(tiny_config(groups=3, blocks=2, group_residual=residual)).double().eval()
        lr, code = torch.rand(2, 3, 7, 9).double(), torch.randn(2, 10).double()
        with torch.no_grad():
            modulation = condition_path(code, *condition_weights(restorer))
            body = dpcb_stack(restorer.head1(lr), dpcb_weights(restorer), modulation)
            torch.testing.assert_close(restorer.reconstruct(lr, body), restorer(lr, code))


@pytest.mark.parametrize("change, says", [
    ({"x": torch.rand(16, 5, 5)}, r"x has shape \(16, 5, 5\), expected \(B, C, H, W\)"),
    ({"x": torch.rand(2, 16, 0, 5)}, "no size 0"),
    ({"x": torch.rand(2, 8, 5, 5)}, r"weight1\[0\] has shape \(16, 16, 3, 3\), expected \(8, 8, 3, 3\)"),
    ({"x": torch.rand(2, 16, 5, 5).double()}, r"weight1\[0\] is torch.float32 and x torch.float64"),
    ({"modulation": torch.ones(2, 4, 16).int()}, "modulation is torch.int32"),
    ({"x": torch.ones(2, 16, 5, 5).int()}, "x is torch.int32"),
    ({"modulation": torch.rand(2, 4, 16, device="meta")}, "modulation is on meta and x on cpu"),
    ({"weight2": [torch.rand(16, 16, 3, 3)] * 3}, "weight2 has 3 tensors for 4 blocks"),
    ({"bias1": [torch.rand(15)] * 4}, r"bias1\[0\] has shape \(15,\), expected \(16,\)"),
    ({"blocks": 3}, "blocks=3: expected a whole number of blocks per group that divides all N=4"),
    ({"blocks": 2.0}, "blocks=2.0"),
    ({"group_residual": "triple"}, "group_residual='triple': expected one of 'doubled', 'plain'"),
])
def test_wrong_arguments_are_named(change, says):
    x, modulation, weights = case(2, 16, 5, 5)
    arguments = {"x": x, "modulation": modulation}
    arguments |= {name: change[name] for name in arguments if name in change}
    weights = weights._replace(**{name: value for name, value in change.items() if name not in arguments})
    with pytest.raises(ValueError, match=says):
        dpcb_stack(arguments["x"], weights, arguments["modulation"])
