"""The operator ``next_condition`` beside its kernel: its parts, its place in PyTorch, its messages."""

from __future__ import annotations

import pytest
import torch
from support.networks import tiny_config

import dan_fast
from dan_fast.fast_model.dual_path import condition_weights
from dan_fast.fast_model.v2 import tail_weights
from dan_fast.ops import condition_path, estimator_tail, next_condition
from dan_fast.ops.next_condition import next_condition_ref


def case(**changes):
    model = dan_fast.DAN(tiny_config(groups=2, blocks=2, kernel_size=9, **changes)).requires_grad_(False)
    x = torch.randn(2, model.config.estimator_channels, 6, 5)
    return x, tail_weights(model.Estimator), model.encoder[0], condition_weights(model.Restorer)


def test_is_its_two_parts_where_each_is_computed_by_itself():
    x, tail, encoder, path = case()
    kernel, code, scales = next_condition(x, *tail, encoder, *path)
    expected = estimator_tail(x, *tail, encoder)
    assert torch.equal(kernel, expected[0]) and torch.equal(code, expected[1])
    assert torch.equal(scales, condition_path(code, *path))
    torch.testing.assert_close(scales.double(), next_condition_ref(x, *tail, encoder, *path)[2].double())


def test_in_pytorch():
    x, tail, encoder, path = case()
    torch.library.opcheck(torch.ops.dan_fast.next_condition.default, (x, *tail, encoder, *path))


@pytest.mark.parametrize("change, says", [
    (lambda x, tail, encoder, path: (x[0], tail, encoder, path), r"x has shape \(16, 6, 5\), expected \(B, C, H, W\)"),
    (lambda x, tail, encoder, path: (x, tail, encoder[:, 1:], path), r"head_weight has shape \(16, 10\), expected"),
    (lambda x, tail, encoder, path: (x, tail, encoder, path._replace(blocks=3)), "blocks=3: expected a whole number"),
    (lambda x, tail, encoder, path: (x.requires_grad_(), tail, encoder, path), "next_condition has no gradient"),
])
def test_wrong_arguments_are_named(change, says):
    x, tail, encoder, path = change(*case())
    with pytest.raises(ValueError, match=says):
        next_condition(x, *tail, encoder, *path)
