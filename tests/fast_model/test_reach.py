"""The distance that a network sees, against the gradients of the plain model: no pixel more and none less."""

from __future__ import annotations

import pytest
import torch
from support.networks import REFINER, tiny_config, tiny_network

from dan_fast.fast_model.reach import network_reach, restorer_reach, result_reach
from dan_fast.model import DAN
from dan_fast.model.blocks import ChannelAttention

SHAPES = {"shallow": {"blocks": 1, "estimator_blocks": 1}, "deep": {"blocks": 3, "estimator_blocks": 2}}
SIZE = 71  # of lr; odd: it has a middle


def network(version, scale, upsampler, shape):
    config = tiny_config(version=version, groups=2 if version == "v2" else 0, scale=scale, upsampler=upsampler,
                         group_residual="plain", **SHAPES[shape])
    model = DAN(config).double().eval()
    for module in model.modules():
        if isinstance(module, ChannelAttention):  # it averages over the whole image: not any more
            torch.nn.init.zeros_(module.body[2].weight)
    return model


def distance(values, lr):
    """The largest distance, along an axis, from the middle pixel of ``lr`` to one that ``values`` depend on."""
    gradient, = torch.autograd.grad(values.sum(), lr)
    rows, columns = gradient.abs().sum((0, 1)).nonzero().unbind(1)
    return max((places - SIZE // 2).abs().max().item() for places in (rows, columns))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("upsampler", ["published", "direct"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_reach(version, scale, upsampler, shape):
    model = network(version, scale, upsampler, shape)
    lr = torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64, requires_grad=True)
    estimator = model.Estimator
    x, z = estimator.head_LR(lr), estimator.head_HR(model.Restorer(lr, model.init_ker_map))
    if version == "v1":
        for block in estimator.body:
            x = block(x, z)
        last = estimator.out
    else:
        x, _ = estimator.body(x, z)
        last = estimator.tail[0]
    assert distance(last(x)[..., SIZE // 2, SIZE // 2], lr) == network_reach(model.config)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_reach_of_a_refined_result(scale):
    """With the published upsampler, as the bicubic image of the direct one sees less far than is said."""
    model = tiny_network(scale=scale, upsampler="published", **REFINER).double().eval()
    lr = torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64, requires_grad=True)
    code, middle = model.init_ker_map, SIZE // 2 * scale
    result = model.refine(lr, model.Restorer(lr, code), code)
    found = distance(result[..., middle:middle + scale, middle:middle + scale], lr)
    assert restorer_reach(model.config) < found <= result_reach(model.config) <= found + 1
    assert network_reach(model.config) == result_reach(model.config)
