"""The registry of example calls: it has every operator, its calls are those of a network and can be computed."""

from __future__ import annotations

import sys

import pytest
import torch
from support.networks import REFINER, tiny_config

import dan_fast
from dan_fast import ops
from dan_fast.fast_model.dual_path import condition_weights
from dan_fast.fast_model.versions import plan_for
from dan_fast.ops import example_calls

V1 = dan_fast.DANConfig(version="v1", channels=16, blocks=1, estimator_channels=32, estimator_blocks=1)


def test_every_operator_has_an_example_or_a_reason():
    operators = {name for name in ops.__all__
                 if hasattr(sys.modules[getattr(ops, name).__module__], f"{name}_ref")}
    found = {call.operator.__name__ for config in (tiny_config(upsampler="published"), V1)
             for call in example_calls.calls(config, 2, 5, 7, torch.float32, "meta")}
    assert found | set(example_calls.WITHOUT_EXAMPLE) == operators and len(operators) >= 15
    assert not found & set(example_calls.WITHOUT_EXAMPLE)
    assert all(example_calls.WITHOUT_EXAMPLE.values())


@pytest.mark.parametrize("config", [tiny_config(), tiny_config(upsampler="published", scale=3), V1,
                                    tiny_config(**REFINER)],
                         ids=["v2", "v2, published upsampler", "v1", "v2, refiner"])
def test_shapes_are_those_of_the_network(config):
    """The weights in the calls have the shapes of weights in the network."""
    parameters = {tuple(value.shape) for value in dan_fast.DAN(config).parameters()}
    plan = plan_for(dan_fast.DAN(config).eval())  # which makes some into others
    parameters |= {tuple(plan._upscale._weight.shape), tuple(plan._head_weight.shape)}
    flat = {shape[:2] for shape in parameters if shape[2:] == (1, 1)}
    for operator, arguments, _ in example_calls.calls(config, 2, 5, 7, torch.float32, "cpu"):
        for name, value in arguments.items():
            stacked = operator in (ops.condition_path, ops.next_condition) and name not in ("conv_weight", "out_weight")
            if "weight" in name and not stacked:
                assert tuple(value.shape) in parameters | flat, (operator.__name__, name)
    paths = [call.arguments for call in example_calls.calls(config, 2, 5, 7, torch.float32, "cpu")
             if call.operator is ops.condition_path]
    model = dan_fast.DAN(config)
    modules = [module for module in (model.Restorer, model.Refiner) if module is not None]
    assert len(paths) == (0 if config.version == "v1" else len(modules))
    for path, module in zip(paths, modules, strict=False):
        for name, value in condition_weights(module)._asdict().items():
            assert path[name].shape == value.shape if isinstance(value, torch.Tensor) else path[name] == value


def test_filled_calls_give_results_and_gradients():
    """Calls share tensors, which already require a gradient from one call when the next one is filled."""
    for call in example_calls.calls(tiny_config(), 2, 5, 7, torch.float32, "cpu"):
        example_calls.fill(call)
        results = example_calls.compute(call, True)
        outputs = 1 if not call.differentiable else len(results) - sum(
            isinstance(value, torch.Tensor) and name != "encoder" for name, value in call.arguments.items())
        assert outputs >= 1
        assert all(result.isfinite().all() and result.any() for result in results), call.operator.__name__


@pytest.mark.parametrize("gradients", [False, True])
def test_random_numbers_stay(gradients):
    before = torch.get_rng_state()
    for call in example_calls.calls(tiny_config(), 1, 3, 4, torch.float32, "cpu"):
        example_calls.compute(call, gradients)
    assert torch.equal(before, torch.get_rng_state())
