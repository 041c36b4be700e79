"""The fused 3x3 convolutions and ``dpcb`` on a GPU: against cuDNN and eager PyTorch, torch.compile, and their floor.

    pytest benchmarks/bench_conv3x3.py --benchmark-json=out.json

Ratios are in ``extra_info``: of the medians, both timed in turn from CUDA graphs (above 1: ours is faster).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from gpu import captured, require_gpu
from torch import Tensor

from dan_fast.ops import conv3x3_bias_lrelu, conv3x3_scale_residual, dpcb
from dan_fast.ops.dpcb import dpcb_gradients
from dan_fast.ops.layout import SLOPE

# As the Restorer of v2 meets them: a small photo, a middling one, a batch in training; and the Estimator, 32 channels.
SHAPES = {"1x64x64x64": (1, 64, 64, 64), "1x64x510x340": (1, 64, 510, 340), "64x64x64x64": (64, 64, 64, 64),
          "1x32x510x340": (1, 32, 510, 340)}
MATRIX = 4096


class Block(NamedTuple):
    x: Tensor
    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    scale: Tensor


def draw(shape: str, dtype: torch.dtype) -> Block:
    batch, channels, height, width = SHAPES[shape]

    def random(*size: int) -> Tensor:
        value = torch.randn(size, device="cuda").to(dtype)
        return value.to(memory_format=torch.channels_last) if len(size) == 4 else value

    weights = [random(channels, channels, 3, 3) / (3 * channels**0.5) for _ in range(2)]
    # Ours keeps f1 without bias2 for the gradients, PyTorch with it: with zeros, both are given the same.
    return Block(random(batch, channels, height, width), weights[0], random(channels), weights[1],
                 torch.zeros_like(weights[1][:, 0, 0, 0]), random(batch, channels))


def plain_lrelu(x: Tensor, weight1: Tensor, bias1: Tensor, *_) -> Tensor:
    return F.leaky_relu(F.conv2d(x, weight1, bias1, padding=1), SLOPE)


def plain_residual(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, scale: Tensor) -> Tensor:
    return x + F.conv2d(x, weight2, bias2, padding=1) * scale[:, :, None, None]


def plain_block(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, scale: Tensor) -> Tensor:
    t = F.leaky_relu(F.conv2d(x, weight1, bias1, padding=1), SLOPE)
    return x + F.conv2d(t, weight2, bias2, padding=1) * scale[:, :, None, None]


def plain_gradients(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, scale: Tensor):
    """What autograd computes for ``plain_block``, in the same order; ``x`` stands for every image."""
    def backward(grad: Tensor, image: Tensor, weight: Tensor):
        return torch.ops.aten.convolution_backward(grad, image, weight, [len(weight)], [1, 1], [1, 1], [1, 1], False,
                                                   [0, 0], 1, [True, True, True])
    grad_scale = (x * x).sum((2, 3))
    grad_t, grad_weight2, grad_bias2 = backward(x * scale[:, :, None, None], x, weight2)
    inner = torch.ops.aten.leaky_relu_backward(grad_t, x, SLOPE, True)
    grad_x, grad_weight1, grad_bias1 = backward(inner, x, weight1)
    return grad_x + x, grad_weight1, grad_bias1, grad_weight2, grad_bias2, grad_scale


def gradients(block: Block):
    return dpcb_gradients((True,) * 6, block.x, *block, activated=block.x, f1=block.x)[:6]


class Operation(NamedTuple):
    """Ours, PyTorch's, and of how many convolutions."""

    ours: Callable
    plain: Callable
    convolutions: int


OPERATIONS = {
    "bias_lrelu": Operation(lambda b: conv3x3_bias_lrelu(b.x, b.weight1, b.bias1, SLOPE), plain_lrelu, 1),
    "scale_residual": Operation(lambda b: conv3x3_scale_residual(b.x, b.weight2, b.bias2, b.scale, b.x),
                                plain_residual, 1),
    "dpcb": Operation(lambda b: dpcb(*b), plain_block, 2),
    "dpcb_backward": Operation(gradients, plain_gradients, 4),
}
every_operation = pytest.mark.parametrize("operation", OPERATIONS)
every_shape = pytest.mark.parametrize("shape", SHAPES)


@pytest.fixture(autouse=True)
def cudnns_best(monkeypatch):
    """cuDNN measures its algorithms, for both sides."""
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)


def facts(block: Block, operation: str, against: str) -> dict[str, object]:
    return {"shape": list(block.x.shape), "dtype": str(block.x.dtype), "operation": operation, "against": against,
            "device": "cuda"}


def calls_for(block: Block) -> int:
    return 50 if block.x.numel() < 2**20 else 10


def assert_the_same(ours, plain, dtype: torch.dtype) -> None:
    ours, plain = ([out] if isinstance(out, Tensor) else out for out in (ours, plain))
    for number, (a, b) in enumerate(zip(ours, plain, strict=True)):
        error = (a.double() - b.double()).norm() / b.double().norm()
        assert error <= (2e-3 if dtype == torch.float32 else 2e-2), f"output {number}: {error}"


@every_shape
@every_operation
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compile"])
def test_against_torch(compare, shape, operation, dtype, compiled):
    require_gpu()
    block, (ours, plain, _) = draw(shape, dtype), OPERATIONS[operation]
    with torch.inference_mode():
        assert_the_same(ours(block), plain(*block), dtype)
    reference = torch.compile(plain, fullgraph=True) if compiled else plain
    calls = calls_for(block)
    compare(captured(lambda: ours(block), calls), captured(lambda: reference(*block), calls), calls=calls,
            **facts(block, operation, "torch.compile" if compiled else "cuDNN and eager PyTorch"))


@every_shape
@every_operation
def test_against_floor(compare, benchmark, shape, operation):
    """``of_floor`` in ``extra_info``: how many times the time of its arithmetic it takes.

    The floor is 9 C^2 multiply-adds a pixel and convolution, at the speed of a large matrix product timed in turn.
    """
    require_gpu()
    block, (ours, _, convolutions) = draw(shape, torch.bfloat16), OPERATIONS[operation]
    matrix, calls = torch.randn(MATRIX, MATRIX, device="cuda").bfloat16(), calls_for(block)
    compare(captured(lambda: ours(block), calls), captured(lambda: matrix @ matrix, calls), calls=calls,
            **facts(block, operation, f"a matrix product of {MATRIX}^3 multiply-adds"))
    if not benchmark.disabled:
        flops = 2 * 9 * block.x.shape[1] * block.x.numel() * convolutions
        floor = benchmark.extra_info["reference_s_a_call"] * flops / (2 * MATRIX**3)
        seconds = benchmark.extra_info["s_a_call"]
        benchmark.extra_info.update(flops=flops, floor_s=floor, of_floor=seconds / floor,
                                    flops_a_second=flops / seconds)
