"""``condition_path`` of the published v2 on a GPU: against PyTorch, torch.compile, and reading its weights once.

    pytest benchmarks/bench_condition_path.py --benchmark-json=out.json

Ratios are in ``extra_info``: of the medians, both timed in turn from CUDA graphs (above 1: ``condition_path`` is
faster). The time of eager PyTorch without a graph, which is that of 400 launches, is ``test_without_a_graph``.
"""

from __future__ import annotations

import pytest
import torch
from gpu import captured, copy_of, require_gpu

from dan_fast import DANConfig
from dan_fast.fast_model.v2 import condition_weights
from dan_fast.model.restorer import RestorerV2
from dan_fast.ops import condition_path
from dan_fast.ops.condition_path import condition_path_ref

CALLS = 20
batches = pytest.mark.parametrize("batch", [1, 64])


def draw(batch: int):
    config = DANConfig()
    with torch.no_grad():
        weights = condition_weights(RestorerV2(config).cuda())
    return (torch.randn(batch, config.code_length, device="cuda"), *weights)


def facts(arguments, against: str) -> dict[str, object]:
    return {"batch": len(arguments[0]), "blocks": len(arguments[3]), "channels": arguments[3].shape[1],
            "dtype": str(arguments[3].dtype), "against": against, "device": "cuda"}


@batches
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compile"])
def test_against_torch(compare, batch, compiled):
    require_gpu()
    arguments = draw(batch)
    reference = torch.compile(condition_path_ref, fullgraph=True) if compiled else condition_path_ref
    with torch.inference_mode():
        torch.testing.assert_close(condition_path(*arguments), condition_path_ref(*arguments), rtol=1e-4, atol=1e-4)
    compare(captured(lambda: condition_path(*arguments), CALLS), captured(lambda: reference(*arguments), CALLS),
            calls=CALLS, **facts(arguments, "torch.compile" if compiled else "eager PyTorch"))


@batches
def test_without_a_graph(compare, batch):
    require_gpu()
    arguments = draw(batch)
    compare(lambda: condition_path(*arguments), lambda: condition_path_ref(*arguments),
            **facts(arguments, "eager PyTorch, launched from Python"))


@batches
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compile"])
def test_backward(compare, batch, compiled):
    """The sequential part, one kernel; the weights' gradients are batched products in both."""
    require_gpu()
    _, _, _, weight1, _, weight2, _, blocks, _ = draw(batch)
    hidden, grad = (torch.randn(batch, len(weight1), weight1.shape[1], device="cuda") for _ in range(2))

    def plain() -> torch.Tensor:
        g = torch.zeros_like(grad[:, 0])
        for n in reversed(range(len(weight1))):
            if n % blocks == blocks - 1:
                g = 2 * g
            h = (g + grad[:, n]) @ weight2[n]
            g = g + torch.where(hidden[:, n] > 0, h, 0.2 * h) @ weight1[n]
        return g

    def fast() -> torch.Tensor:
        return torch.ops.dan_fast.condition_path_backward(grad, hidden, weight1, weight2, blocks, True)[2]

    with torch.inference_mode():
        torch.testing.assert_close(fast(), plain(), rtol=1e-3, atol=1e-3)
    reference = torch.compile(plain, fullgraph=True) if compiled else plain
    compare(captured(fast, CALLS), captured(reference, CALLS), calls=CALLS, batch=batch, direction="backward",
            device="cuda", dtype="torch.float32", against="torch.compile" if compiled else "eager PyTorch")


@batches
def test_against_floor(compare, benchmark, batch):
    """``of_floor`` in ``extra_info``: how many times the time of copying as many bytes as the weights have."""
    require_gpu()
    arguments = draw(batch)
    size = sum(tensor.numel() * tensor.element_size() for tensor in arguments[1:7])
    compare(captured(lambda: condition_path(*arguments), CALLS), captured(copy_of(size), CALLS), calls=CALLS,
            **facts(arguments, "a copy that moves as many bytes as the weights have"))
    if not benchmark.disabled:
        benchmark.extra_info.update(bytes=size, of_floor=1 / benchmark.extra_info["ratio"])
