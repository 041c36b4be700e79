"""``channel_attention`` on a GPU, forward and backward: against PyTorch, torch.compile, and copying as many bytes.

    pytest benchmarks/bench_channel_attention.py --benchmark-json=out.json

Ratios are in ``extra_info``: of the medians, both timed in turn from CUDA graphs (above 1: ours is faster).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from gpu import captured, copy_of, require_gpu

from dan_fast.ops import channel_attention
from dan_fast.ops.channel_attention import channel_attention_ref

# As v1's Restorer meets them: a small photo, a middling one, a batch in training.
SHAPES = {"1x64x64": (1, 64, 64, 64), "1x510x340": (1, 64, 510, 340), "64x64x64": (64, 64, 64, 64)}
shapes = pytest.mark.parametrize("shape", SHAPES)
directions = pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])


def draw(shape: str):
    """y, the weights, and the residual (or the gradient), on the GPU in bfloat16."""
    channels = SHAPES[shape][1]
    sizes = (SHAPES[shape], (channels // 16, channels), (channels // 16,), (channels, channels // 16), (channels,),
             SHAPES[shape])
    tensors = [torch.randn(size, device="cuda", dtype=torch.bfloat16) for size in sizes]
    return [t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for t in tensors]


def plain(y, weight1, bias1, weight2, bias2, residual):
    """In the dtype of y, as v1's block computes it."""
    hidden = F.leaky_relu(F.linear(y.mean((2, 3)), weight1, bias1), 0.2)
    return residual + y * F.linear(hidden, weight2, bias2).sigmoid()[:, :, None, None]


def plain_backward(y, weight1, bias1, weight2, bias2, grad, means):
    """The gradients that ``plain`` has, but for the weights' small products; the means are saved."""
    hidden = F.leaky_relu(F.linear(means, weight1, bias1), 0.2)
    gate = F.linear(hidden, weight2, bias2).sigmoid()
    outer = (grad * y).sum((2, 3)) * gate * (1 - gate)
    inner = outer @ weight2 * torch.where(hidden > 0, 1.0, 0.2).to(y.dtype)
    pixel = inner @ weight1 / (y.shape[2] * y.shape[3])
    return grad * gate[:, :, None, None] + pixel[:, :, None, None], outer, inner


def functions(tensors, backward: bool):
    """Ours, the plain one, and the arguments of the latter."""
    y, *weights, residual = tensors
    if not backward:
        return lambda: channel_attention(*tensors), plain, tensors
    _, means = torch.ops.dan_fast.channel_attention(*tensors)
    return (lambda: torch.ops.dan_fast.channel_attention_backward(residual, y, *weights, means), plain_backward,
            [*tensors, means.to(y.dtype)])


def facts(tensors, backward: bool, against: str) -> dict[str, object]:
    return {"shape": list(tensors[0].shape), "dtype": str(tensors[0].dtype), "against": against, "device": "cuda",
            "direction": "backward" if backward else "forward"}


def calls_for(y) -> int:
    return 50 if y.numel() < 2**20 else 10


@shapes
@directions
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compile"])
def test_against_torch(compare, shape, backward, compiled):
    require_gpu()
    tensors = draw(shape)
    fast, reference, arguments = functions(tensors, backward)
    if not backward:
        exact = channel_attention_ref(*(tensor.double() for tensor in tensors))
        assert (fast() - exact).abs().max() <= 0.1
    reference = torch.compile(reference, fullgraph=True) if compiled else reference
    calls = calls_for(tensors[0])
    compare(captured(fast, calls), captured(lambda: reference(*arguments), calls), calls=calls,
            **facts(tensors, backward, "torch.compile" if compiled else "eager PyTorch"))


@shapes
@directions
def test_against_floor(compare, benchmark, shape, backward):
    """``of_floor`` in ``extra_info``: how many times the time of copying as many bytes it takes.

    Forward reads y, then y and the residual, and writes one image; backward reads the gradient and y, then the
    gradient, and writes one. What stays in the L2 cache in between may beat the floor.
    """
    require_gpu()
    tensors = draw(shape)
    size, calls = 4 * tensors[0].numel() * tensors[0].element_size(), calls_for(tensors[0])
    compare(captured(functions(tensors, backward)[0], calls), captured(copy_of(size), calls), calls=calls,
            **facts(tensors, backward, "a copy that moves as many bytes"))
    if not benchmark.disabled:
        benchmark.extra_info.update(bytes=size, of_floor=1 / benchmark.extra_info["ratio"])
