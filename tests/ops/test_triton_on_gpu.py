"""Every operator's Triton kernels on a GPU against the reference in float64, forward, backward, and in a CUDA graph.

The cases are the calls that ``dan_fast.ops.example_calls`` makes for a network: an operator that is added there is
tested here. Without a GPU: ``interpreted/`` (numerics) and the ``test_*_compiles.py`` (machine code).
"""

from __future__ import annotations

import sys

import pytest
import torch
from support.accuracy import assert_accurate
from support.operator_cases import NETWORKS, SHAPES, compute_all
from torch import Tensor

from dan_fast import ops
from dan_fast.ops import example_calls
from dan_fast.ops.backend import why_no_triton

if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)
if why_no_triton():
    pytest.skip(why_no_triton(), allow_module_level=True)



def cases() -> list:
    """Every call of every network once; the networks share some."""
    found = {}
    for network, config in NETWORKS.items():
        for index, (operator, arguments, _) in enumerate(example_calls.calls(config, 1, 3, 3, torch.float32, "meta")):
            same = operator.__name__, *(getattr(value, "shape", value) for value in arguments.values())
            found.setdefault(same, pytest.param(network, index, id=f"{network}-{index}-{operator.__name__}"))
    return list(found.values())


CASES = cases()


@pytest.fixture(autouse=True)
def exact_convolutions():
    """Convolutions do not compute in TF32, as the bound is that of float32."""
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    yield
    torch.backends.cudnn.conv.fp32_precision = before


def drawn(network: str, index: int, shape: tuple[int, int, int], dtype: torch.dtype):
    """Operator, reference, names and random values of its tensors, and a function that completes these to a call."""
    call = list(example_calls.calls(NETWORKS[network], *shape, dtype, "cuda"))[index]
    operator, arguments, differentiable = call
    reference = getattr(sys.modules[operator.__module__], f"{operator.__name__}_ref")
    example_calls.fill(call)
    tensors = {name: value.clone().requires_grad_(differentiable and name != "encoder")
               for name, value in arguments.items() if isinstance(value, Tensor)}
    others = {name: value for name, value in arguments.items() if name not in tensors}

    def calling(function):
        return lambda *values: function(**dict(zip(tensors, values, strict=True)), **others)

    return calling(operator), calling(reference), list(tensors.values())


@pytest.mark.parametrize("shape, dtype", SHAPES, ids=str)
@pytest.mark.parametrize("network, index", CASES)
def test_matches_reference(network, index, shape, dtype):
    operator, reference, tensors = drawn(network, index, shape, dtype)
    with ops.backend("triton"):
        assert_accurate(operator, reference, tensors)


@pytest.mark.parametrize("network, index", CASES)
def test_in_a_captured_graph(network, index, monkeypatch):
    """Forward and backward, with everything compiled; the replay computes from new values, the same bits as outside."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)  # its weight gradients may add in any order
    shape, dtype = SHAPES[2]
    operator, _, tensors = drawn(network, index, shape, dtype)
    _, _, others = drawn(network, index, shape, dtype)

    def step() -> list[Tensor]:
        outputs = operator(*tensors)
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        learn = [tensor for tensor in tensors if tensor.requires_grad]
        gradients = torch.autograd.grad(outputs, learn, [torch.ones_like(out) for out in outputs]) if learn else ()
        return [*outputs, *gradients]

    with ops.backend("triton"):
        compute_all(NETWORKS[network], shape, dtype, "cuda")
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # cuBLAS and cuDNN choose their algorithms
            step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = step()
        with torch.no_grad():
            for tensor, other in zip(tensors, others, strict=True):
                tensor.copy_(other)
        graph.replay()
        for a, b in zip(found, step(), strict=True):
            assert torch.equal(a, b)
