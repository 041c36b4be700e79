"""``modulate`` on a GPU, forward and backward: against PyTorch, torch.compile, and its floor, copying as many bytes.

    pytest benchmarks/bench_modulate.py --benchmark-json=out.json

Ratios are in ``extra_info``: of the medians, both timed in turn from CUDA graphs (above 1: ``modulate`` is faster).
"""

from __future__ import annotations

import pytest
import torch
from gpu import captured, copy_of, require_gpu

from dan_fast.ops import modulate
from dan_fast.ops.modulate import modulate_ref

# As the Restorer of v2 meets them: a small photo, a middling one, a batch in training.
SHAPES = {"1x64x64": (1, 64, 64, 64), "1x510x340": (1, 64, 510, 340), "64x64x64": (64, 64, 64, 64)}

cases = [pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"]),
         pytest.mark.parametrize("shape", SHAPES)]


def for_every_case(test):
    for mark in cases:
        test = mark(test)
    return test


def draw(shape: str, dtype: torch.dtype):
    """x (or the gradient), f1, f2 and a bias, on the GPU."""
    x, f1 = (torch.randn(SHAPES[shape], device="cuda").to(dtype, memory_format=torch.channels_last) for _ in range(2))
    return x, f1, torch.randn(x.shape[:2], device="cuda").to(dtype), torch.randn(x.shape[1], device="cuda").to(dtype)


def plain_forward(x, f1, f2, bias):
    """In the dtype of x, as a network in plain PyTorch does it behind a convolution without bias."""
    return x + (f1 + bias[:, None, None]) * f2[:, :, None, None]


def plain_backward(grad, f1, f2, bias):
    """What autograd computes for ``plain_forward``."""
    scaled = grad * f2[:, :, None, None]
    return scaled, (grad * (f1 + bias[:, None, None])).sum((2, 3)), scaled.sum((0, 2, 3))


FORWARD = (modulate, plain_forward)
BACKWARD = (lambda *arguments: torch.ops.dan_fast.modulate_backward(*arguments), plain_backward)
directions = pytest.mark.parametrize("fast, plain", [FORWARD, BACKWARD], ids=["forward", "backward"])


def facts(arguments, fast, against: str) -> dict[str, object]:
    x = arguments[0]
    return {"shape": list(x.shape), "dtype": str(x.dtype), "against": against, "device": "cuda",
            "direction": "forward" if fast is modulate else "backward"}


def calls_for(x) -> int:
    return 50 if x.numel() < 2**20 else 10


@for_every_case
@directions
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compile"])
def test_against_torch(compare, shape, dtype, fast, plain, compiled):
    require_gpu()
    arguments = draw(shape, dtype)
    reference = torch.compile(plain, fullgraph=True) if compiled else plain
    if fast is modulate:
        exact = modulate_ref(*(argument.double() for argument in arguments))
        assert (fast(*arguments) - exact).abs().max() <= (1e-5 if dtype == torch.float32 else 0.1)
    calls = calls_for(arguments[0])
    compare(captured(lambda: fast(*arguments), calls), captured(lambda: reference(*arguments), calls), calls=calls,
            **facts(arguments, fast, "torch.compile" if compiled else "eager PyTorch"))


@for_every_case
@directions
def test_against_floor(compare, benchmark, shape, dtype, fast, plain):
    """``of_floor`` in ``extra_info``: how many times the time of copying as many bytes it takes.

    Forward and backward each read two images and write one.
    """
    require_gpu()
    arguments = draw(shape, dtype)
    x = arguments[0]
    size, calls = 3 * x.numel() * x.element_size(), calls_for(x)
    compare(captured(lambda: fast(*arguments), calls), captured(copy_of(size), calls), calls=calls,
            **facts(arguments, fast, "a copy that moves as many bytes"))
    if not benchmark.disabled:
        benchmark.extra_info.update(bytes=size, of_floor=1 / benchmark.extra_info["ratio"],
                                    bytes_a_second=size / benchmark.extra_info["s_a_call"])
