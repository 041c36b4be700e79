"""``estimator_tail`` on a GPU: against PyTorch with its convolution, torch.compile, and reading the image once.

    pytest benchmarks/bench_estimator_tail.py --benchmark-json=out.json

Ratios are in ``extra_info``: of the medians, both timed in turn from CUDA graphs (above 1: ours is faster).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from gpu import captured, copy_of, require_gpu

from dan_fast.ops import estimator_tail
from dan_fast.ops.estimator_tail import estimator_tail_ref

# As the Estimator of v2 meets them: a small photo, a middling one, a batch in training.
SHAPES = {"1x64x64": (1, 32, 64, 64), "1x510x340": (1, 32, 510, 340), "64x64x64": (64, 32, 64, 64)}
shapes = pytest.mark.parametrize("shape", SHAPES)
sides = pytest.mark.parametrize("side, length", [(21, 10), (31, 15)], ids=["k21", "k31"])


def draw(shape: str, side: int, length: int):
    """Image, weights and encoder on the GPU in bfloat16, the first two in channels_last."""
    channels, taps = SHAPES[shape][1], side * side
    sizes = (SHAPES[shape], (2 * channels, channels, 3, 3), (2 * channels,), (taps, 2 * channels), (taps,),
             (taps, length))
    tensors = [torch.randn(size, device="cuda", dtype=torch.bfloat16) for size in sizes]
    tensors = [t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for t in tensors]
    tensors[1] /= channels**0.5
    tensors[3] /= (2 * channels)**0.5
    return tensors


def plain(x, conv_weight, conv_bias, out_weight, out_bias, encoder):
    """As the Estimator's layers compute it, with the convolution on the whole image."""
    features = F.conv2d(x, conv_weight, conv_bias, padding=1).mean((2, 3))
    kernel = F.linear(features, out_weight, out_bias).softmax(1)
    return kernel, kernel @ encoder


def facts(tensors, side: int, against: str) -> dict[str, object]:
    return {"shape": list(tensors[0].shape), "dtype": str(tensors[0].dtype), "kernel_size": side, "against": against,
            "device": "cuda"}


def calls_for(x) -> int:
    return 50 if x.numel() < 2**20 else 10


@shapes
@sides
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compile"])
def test_against_torch(compare, shape, side, length, compiled):
    require_gpu()
    tensors = draw(shape, side, length)
    exact, _ = estimator_tail_ref(*(tensor.double() for tensor in tensors))
    assert (estimator_tail(*tensors)[0] - exact).abs().max() <= 1e-4
    reference = torch.compile(plain, fullgraph=True) if compiled else plain
    calls = calls_for(tensors[0])
    compare(captured(lambda: estimator_tail(*tensors), calls), captured(lambda: reference(*tensors), calls),
            calls=calls, **facts(tensors, side, "torch.compile" if compiled else "eager PyTorch"))


@shapes
@sides
def test_against_floor(compare, benchmark, shape, side, length):
    """``of_floor`` in ``extra_info``: how many times the time of a copy that moves as many bytes as the image has."""
    require_gpu()
    tensors = draw(shape, side, length)
    size, calls = tensors[0].numel() * tensors[0].element_size(), calls_for(tensors[0])
    compare(captured(lambda: estimator_tail(*tensors), calls), captured(copy_of(size), calls), calls=calls,
            **facts(tensors, side, "a copy that moves as many bytes"))
    if not benchmark.disabled:
        benchmark.extra_info.update(bytes=size, of_floor=1 / benchmark.extra_info["ratio"])
