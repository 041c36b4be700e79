"""``dpcb_stack`` on the CPU: the body of the published v2's Restorer, against eager PyTorch and torch.compile.

    pytest benchmarks/bench_dpcb_stack.py --benchmark-json=out.json

``ratio`` in ``extra_info`` is of the medians, both timed in turn (above 1: ``dpcb_stack`` is faster). ``of_floor`` is
the share of the time that the multiplications alone would take at the rate of a large matrix product. torch.compile
takes minutes to compile: ``DAN_FAST_BENCH=all`` includes it.
"""

from __future__ import annotations

import os
import time
from functools import cache

import pytest
import torch

from dan_fast.config import DANConfig
from dan_fast.fast_model.v2 import dpcb_weights
from dan_fast.model.restorer import RestorerV2
from dan_fast.ops import backend, dpcb_stack
from dan_fast.ops.dpcb_stack import DPCBWeights, dpcb_stack_ref

SIZES = [(64, 64), (128, 128), (256, 256), (340, 510)]
sizes = pytest.mark.parametrize("height, width", SIZES, ids=[f"{h}x{w}" for h, w in SIZES])
threads = pytest.mark.parametrize("count", [1, 2], ids=["1 thread", "2 threads"])


@pytest.fixture
def use(request):
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@cache
def weights() -> DPCBWeights:
    torch.manual_seed(0)
    return dpcb_weights(RestorerV2(DANConfig()).requires_grad_(False))


def in_format(memory_format: torch.memory_format) -> DPCBWeights:
    lists = [[t.contiguous(memory_format=memory_format) if t.dim() == 4 else t for t in tensors]
             for tensors in weights()[:4]]
    return DPCBWeights(*lists, *weights()[4:])


def draw(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.randn(1, 64, height, width).contiguous(memory_format=torch.channels_last)
    return x, torch.rand(1, len(weights().weight1), 64) * 0.3


def floor_seconds(height: int, width: int) -> float:
    """36 products a tile of 4x4 and pair of channels, at the rate of the best of some matrix products."""
    a, b = torch.rand(2, 1536, 1536)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    tiles = -(-height // 4) * -(-width // 4)
    return 2 * len(weights().weight1) * tiles * 36 * 64**2 * best / 1536**3


@sizes
@threads
@pytest.mark.parametrize("against", ["channels_last", "NCHW", "compile"])
def test_body(compare, benchmark, use, count, against, height, width):
    if against == "compile" and os.environ.get("DAN_FAST_BENCH") != "all":
        pytest.skip("compiling takes minutes: DAN_FAST_BENCH=all includes it")
    use(count)
    x, scales = draw(height, width)
    memory_format = torch.contiguous_format if against == "NCHW" else torch.channels_last
    own, x_own = in_format(memory_format), x.contiguous(memory_format=memory_format)
    reference = torch.compile(dpcb_stack_ref) if against == "compile" else dpcb_stack_ref
    with torch.inference_mode(), backend("cpp"):
        torch.testing.assert_close(dpcb_stack(x, weights(), scales), dpcb_stack_ref(x_own, own, scales),
                                   rtol=1e-3, atol=1e-3)
        compare(lambda: dpcb_stack(x, weights(), scales), lambda: reference(x_own, own, scales),
                rounds=5 if height * width > 10000 else 11, shape=list(x.shape), blocks=len(own.weight1),
                dtype="float32", against=against)
    if not benchmark.disabled:
        benchmark.extra_info["of_floor"] = floor_seconds(height, width) / benchmark.stats.stats.median
