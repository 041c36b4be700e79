"""The place in PyTorch of every operator that has gradients: what it must be to autograd, compilers and autocast.

A test module derives a class from ``OperatorTests``, which names its operator and draws its arguments.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor


def as_tuple(outputs) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def loss(function, arguments) -> Tensor:
    return sum(out.square().sum() for out in as_tuple(function(*arguments)))


def learners(arguments) -> list[Tensor]:
    return [value for value in arguments if isinstance(value, Tensor) and value.requires_grad]


def gradients(function, arguments) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss(function, arguments), learners(arguments))


def assert_close(found, expected) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


class _Module(torch.nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments):
        return self.function(*arguments)


class OperatorTests:
    """``arguments()`` draws a call of ``op``; its tensors require a gradient wherever the operator has one."""

    op: Any
    reference: Any
    registered: Any  # of torch.ops
    dynamic: tuple[dict[int, str] | None, ...]  # of each argument the sizes, by dimension, that an export leaves open

    def arguments(self, batch: int = 2, height: int = 3, dtype: torch.dtype = torch.float32) -> tuple:
        raise NotImplementedError

    def as_registered(self, arguments: tuple, learning: bool) -> tuple:
        """The arguments of the registered operator for those of the public one."""
        return arguments

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("learning", [True, False])
    def test_opcheck(self, dtype, learning):
        arguments = self.arguments(dtype=dtype)
        for tensor in learners(arguments):
            tensor.requires_grad_(learning)
        torch.library.opcheck(self.registered, self.as_registered(arguments, learning))

    def test_compiles_as_one_graph(self):
        arguments = self.arguments()
        compiled = torch.compile(type(self).op, fullgraph=True)
        assert_close(gradients(compiled, arguments), gradients(self.op, arguments))
        with torch.no_grad():
            assert_close(as_tuple(compiled(*arguments)), as_tuple(self.op(*arguments)))

    def test_exports(self):
        sizes = {name: torch.export.Dim(name) for shape in self.dynamic if shape for name in shape.values()}
        shapes = tuple(shape and {dim: sizes[name] for dim, name in shape.items()} for shape in self.dynamic)
        with torch.no_grad():
            program = torch.export.export(_Module(self.op), self.arguments(), dynamic_shapes=(shapes,))
            assert self.registered in [node.target for node in program.graph.nodes]
            other = self.arguments(batch=3, height=9)
            assert_close(as_tuple(program.module()(*other)), as_tuple(self.op(*other)))

    def test_inference_mode(self):
        arguments = self.arguments()
        with torch.inference_mode():
            assert_close(as_tuple(self.op(*arguments)), as_tuple(self.reference(*arguments)))

    def test_autocast(self):
        """It changes nothing: neither a dtype nor a bit."""
        arguments = self.arguments()
        expected = *as_tuple(self.op(*arguments)), *gradients(self.op, arguments)
        with torch.autocast("cpu", torch.bfloat16):
            found = *as_tuple(self.op(*arguments)), *gradients(self.op, arguments)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    def test_only_the_gradients_that_are_needed(self):
        arguments = self.arguments(dtype=torch.float64)
        expected = gradients(self.reference, arguments)
        places = [place for place, value in enumerate(arguments) if isinstance(value, Tensor) and value.requires_grad]
        for place, gradient in zip(places, expected, strict=True):
            alone = [value.detach().requires_grad_(number == place) if isinstance(value, Tensor) else value
                     for number, value in enumerate(arguments)]
            assert_close(gradients(self.op, alone), [gradient])
