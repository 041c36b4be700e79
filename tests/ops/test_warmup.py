"""``warmup`` runs every operator, forward and backward, with the shapes of the network."""

from __future__ import annotations

import sys

import pytest
import torch
from support.networks import tiny_config

import dan_fast
from dan_fast import ops
from dan_fast.fast_model.v2 import condition_weights
from dan_fast.fast_model.versions import plan_for

warmup_module = sys.modules[ops.warmup.__module__]
V1 = dan_fast.DANConfig(version="v1", channels=16, blocks=1, estimator_channels=32, estimator_blocks=1)


def ran(*arguments, **options) -> list[tuple[str, bool]]:
    """Name and whether it computed gradients of every operator that ``warmup`` ran."""
    run, names = warmup_module.run, []

    def noted(call, gradients) -> None:
        names.append((call.operator.__name__, gradients))
        run(call, gradients)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warmup_module, "run", noted)
        ops.warmup(*arguments, device="cpu", **options)
    return names


@pytest.mark.parametrize("gradients", [False, True])
def test_runs_every_operator(gradients):
    names = ran(tiny_config(upsampler="published"), 2, 5, 7, gradients=gradients)
    names += ran(V1, 2, 5, 7, gradients=gradients)
    # The stacks have the kernels of others, the other two no Triton kernel.
    operators = {name for name in ops.__all__
                 if hasattr(sys.modules[getattr(ops, name).__module__], f"{name}_ref")}
    operators -= {"blur_downsample", "conv3x3_bias", "crb_stack", "dpcb_stack", "dpcg"}
    assert {name for name, _ in names} == operators and len(operators) >= 7
    assert all(found == gradients for _, found in names)


def test_a_network_will_do(tiny_model):
    assert ran(tiny_model, 1, 3, 4) == ran(tiny_model.config, 1, 3, 4)


@pytest.mark.parametrize("config", [tiny_config(), tiny_config(upsampler="published", scale=3), V1],
                         ids=["v2", "v2, published upsampler", "v1"])
def test_shapes_are_those_of_the_network(config):
    """What has weights in the network has the same shapes in the calls."""
    parameters = {tuple(value.shape) for value in dan_fast.DAN(config).parameters()}
    plan = plan_for(dan_fast.DAN(config).eval())  # which makes some into others
    parameters |= {tuple(plan._upscale._weight.shape), tuple(plan._head_weight.shape)}
    flat = {shape[:2] for shape in parameters if shape[2:] == (1, 1)}
    for operator, arguments, _ in warmup_module.calls(config, 2, 5, 7, torch.float32, "cpu"):
        for name, value in arguments.items():
            stacked = operator in (ops.condition_path, ops.next_condition) and name not in ("conv_weight", "out_weight")
            if "weight" in name and not stacked:
                assert tuple(value.shape) in parameters | flat, (operator.__name__, name)
    for path in [call.arguments for call in warmup_module.calls(config, 2, 5, 7, torch.float32, "cpu")
                 if call.operator is ops.condition_path]:
        for name, value in condition_weights(dan_fast.DAN(config).Restorer)._asdict().items():
            assert path[name].shape == value.shape if isinstance(value, torch.Tensor) else path[name] == value


def test_filled_calls_give_results_and_gradients():
    """Calls share tensors, which have learned in one call when the next is filled."""
    for call in warmup_module.calls(tiny_config(), 2, 5, 7, torch.float32, "cpu"):
        warmup_module.fill(call)
        results = warmup_module.run(call, True)
        outputs = 1 if not call.learns else len(results) - sum(
            isinstance(value, torch.Tensor) and name != "encoder" for name, value in call.arguments.items())
        assert outputs >= 1
        assert all(result.isfinite().all() and result.any() for result in results), call.operator.__name__


@pytest.mark.parametrize("gradients", [False, True])
def test_in_inference_mode(gradients):
    with torch.inference_mode():
        ops.warmup(tiny_config(), 1, 3, 4, device="cpu", gradients=gradients)


def test_random_numbers_stay():
    before = torch.get_rng_state()
    ops.warmup(tiny_config(), 1, 3, 4, device="cpu", gradients=True)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("sizes, says", [((0, 3, 4), "batch=0"), ((1, 3.0, 4), r"height=3\.0"), ((1, 3, -4), "width")])
def test_impossible_sizes_are_named(sizes, says):
    with pytest.raises(ValueError, match=says):
        ops.warmup(tiny_config(), *sizes, device="cpu")
