"""The operator ``condition_path`` on the CPU: the reference is the Restorer's own path; its place in PyTorch.

The Triton kernels: ``interpreted/test_condition_path.py`` (numerics), ``test_condition_path_compiles.py`` (machine
code).
"""

from __future__ import annotations

import pytest
import torch
from support.networks import tiny_config
from support.operators import OperatorTests

from dan_fast.fast_model.dual_path import condition_weights
from dan_fast.model.restorer import RestorerV2
from dan_fast.ops import condition_path
from dan_fast.ops.condition_path import condition_path_ref

OP = torch.ops.dan_fast.condition_path.default


def restorer_and_code(batch=3, residual="doubled", dtype=torch.float64, channels=16, groups=3, blocks=2):
    config = tiny_config(channels=channels, groups=groups, blocks=blocks, group_residual=residual)
    return (RestorerV2(config).to(dtype),
            torch.randn(batch, config.code_length, dtype=dtype, requires_grad=True))


def from_restorer(restorer, code):
    """(B, N, C): the model's own modulation, caught at the end of every block's z-path."""
    caught = []
    hooks = [block.body2.register_forward_hook(lambda module, inputs, output: caught.append(output.flatten(1)))
             for group in restorer.body for block in group.body]
    restorer(torch.rand(len(code), 3, 4, 5, dtype=code.dtype), code)
    for hook in hooks:
        hook.remove()
    return torch.stack(caught, 1)


@pytest.mark.parametrize("residual", ["doubled", "plain"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("channels, groups, blocks", [(16, 1, 1), (16, 3, 2), (32, 2, 3), (12, 2, 1)])
def test_is_the_path_of_the_restorer(batch, residual, channels, groups, blocks):
    restorer, code = restorer_and_code(batch, residual, channels=channels, groups=groups, blocks=blocks)
    expected = from_restorer(restorer, code)
    found = condition_path(code, *condition_weights(restorer))
    torch.testing.assert_close(found, expected)
    learned = [code, *(value for name, value in restorer.named_parameters() if "body2" in name or "head2" in name)]
    weight = torch.randn_like(expected)
    for a, b in zip(torch.autograd.grad((found * weight).sum(), learned),
                    torch.autograd.grad((expected * weight).sum(), learned), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("residual", ["doubled", "plain"])
def test_gradcheck(residual):
    restorer, code = restorer_and_code(2, residual, channels=4)
    tensors = [tensor.detach().requires_grad_() for tensor in condition_weights(restorer)[:6]]
    assert torch.autograd.gradcheck(lambda *tensors: condition_path(*tensors, 2, residual), [code, *tensors])


class TestInPyTorch(OperatorTests):
    op, reference, registered = staticmethod(condition_path), staticmethod(condition_path_ref), OP
    dynamic = {0: "batch"}, *(None,) * 8
    residual = "doubled"

    def arguments(self, batch=2, height=3, dtype=torch.float32):
        restorer, code = restorer_and_code(batch, dtype=dtype, channels=4)
        weights = [tensor.detach().requires_grad_() for tensor in condition_weights(restorer)[:6]]
        return code, *weights, 2, self.residual


class TestWithPlainGroups(TestInPyTorch):
    residual = "plain"


def test_16_bit_weights_are_computed_in_float32():
    restorer, code = restorer_and_code(dtype=torch.float32)
    weights = condition_weights(restorer.bfloat16())
    out = condition_path(code, *weights)
    assert out.dtype == torch.float32
    assert torch.equal(out, condition_path(code, *(tensor.float() for tensor in weights[:6]), *weights[6:]))
    out.sum().backward()
    assert restorer.head2.weight.grad.dtype == torch.bfloat16


def test_inference_mode_and_no_images():
    restorer, code = restorer_and_code()
    expected = condition_path(code, *condition_weights(restorer))
    with torch.inference_mode():
        weights = condition_weights(restorer)
        assert torch.equal(condition_path(code, *weights), expected)
        assert condition_path(code[:0], *weights).shape == (0, 6, 16)


@pytest.mark.parametrize("change, says", [
    ({"code": torch.rand(10)}, r"code has shape \(10,\), expected \(B, c\)"),
    ({"code": torch.rand(2, 9)}, r"head_weight has shape \(16, 10\), expected \(16, 9\)"),
    ({"code": torch.ones(2, 10).int()}, "code is torch.int32"),
    ({"weight1": torch.rand(6, 16)}, r"expected \(N, C, C\)"),
    ({"weight2": torch.rand(6, 16, 8)}, r"weight2 has shape \(6, 16, 8\), expected \(6, 16, 16\)"),
    ({"bias2": torch.rand(5, 16)}, r"bias2 has shape \(5, 16\)"),
    ({"head_bias": torch.rand(16, device="meta")}, "head_bias is on meta"),
    ({"blocks": 4}, "blocks=4: expected a whole number of blocks per group that divides all N=6"),
    ({"blocks": 2.0}, "blocks=2.0"),
    ({"blocks": 0}, "blocks=0"),
    ({"group_residual": "triple"}, "group_residual='triple': expected one of 'doubled', 'plain'"),
])
def test_wrong_arguments_are_named(change, says):
    restorer, code = restorer_and_code(2, dtype=torch.float32)
    arguments = {"code": code, **condition_weights(restorer)._asdict(), **change}
    with pytest.raises(ValueError, match=says):
        condition_path(**arguments)
