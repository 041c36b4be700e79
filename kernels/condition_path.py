"""Triton kernels of ``dan_fast.ops.condition_path``: all blocks of the chain in one launch, forward and backward.

One program an image walks the whole chain: z stays in registers, the weights stream through shared memory, fetched
some blocks ahead. On a large batch every program reads all weights again, from the L2 cache; tiles of images with
tensor cores would not be exact in float32. Arithmetic is float32 whatever the dtype of the weights.

Two layouts of vectors take turns, so that none moves between threads: what goes into a product lies along one axis
of the weight's tile, what comes out of it along the other. Hence ``first`` is stored [in, out], ``second`` [out, in].
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import configs

SLOPE = tl.constexpr(0.2)

# num_warps for C = 64; a smaller tile gets fewer, so that each thread keeps as many values.
CANDIDATES: configs.Candidates = {
    80: ({"num_warps": 8, "num_stages": 4}, {"num_warps": 4, "num_stages": 4}),
    89: ({"num_warps": 8, "num_stages": 3}, {"num_warps": 4, "num_stages": 3}),  # 99 KB of shared memory
    90: ({"num_warps": 8, "num_stages": 4}, {"num_warps": 4, "num_stages": 4}, {"num_warps": 8, "num_stages": 6}),
}


@triton.jit
def forward_kernel(code, head, head_bias, first, bias1, second, bias2, scales, inputs, hidden,
                   N: tl.constexpr, BLOCKS: tl.constexpr, DOUBLED: tl.constexpr, C: tl.constexpr,
                   LENGTH: tl.constexpr, PADDED: tl.constexpr, STAGES: tl.constexpr):
    """``inputs`` and ``hidden``, which only gradients need, may be None."""
    image = tl.program_id(0)
    i, j, k = tl.arange(0, C), tl.arange(0, C), tl.arange(0, PADDED)
    values = tl.load(code + image * LENGTH + k, mask=k < LENGTH, other=0.0).to(tl.float32)
    tile = tl.load(head + i[:, None] * LENGTH + k[None, :], mask=(k < LENGTH)[None, :], other=0.0).to(tl.float32)
    z = tl.sum(tile * values[None, :], 1) + tl.load(head_bias + i).to(tl.float32)
    z_in = z
    at = i[:, None] * C + j[None, :]
    for n in tl.range(0, N, num_stages=STAGES):
        w1 = tl.load(first + n * C * C + at).to(tl.float32)
        w2 = tl.load(second + n * C * C + at).to(tl.float32)
        h = tl.sum(w1 * z[:, None], 0) + tl.load(bias1 + n * C + j).to(tl.float32)
        h = tl.where(h > 0, h, h * SLOPE)
        f = tl.sum(w2 * h[None, :], 1) + tl.load(bias2 + n * C + i).to(tl.float32)
        to = (image * N + n) * C
        if inputs is not None:
            tl.store(inputs + to + i, z)
            tl.store(hidden + to + j, h)
        tl.store(scales + to + i, f)
        z += f
        # A group's end; one loop over all blocks, so that fetching ahead does not stop there.
        ends = n % BLOCKS == BLOCKS - 1
        if DOUBLED:
            z = tl.where(ends, 2 * z, z)
        else:
            z = tl.where(ends, z_in + z, z)
            z_in = tl.where(ends, z, z_in)


@triton.jit
def backward_kernel(grad, hidden, first, second, grad_scales, grad_hidden, grad_head,
                    N: tl.constexpr, BLOCKS: tl.constexpr, DOUBLED: tl.constexpr, C: tl.constexpr,
                    STAGES: tl.constexpr):
    """From the last block to the first. ``g`` is the gradient of z behind the block, then before it."""
    image = tl.program_id(0)
    i, j = tl.arange(0, C), tl.arange(0, C)
    at = i[:, None] * C + j[None, :]
    g = tl.zeros((C,), tl.float32)  # nothing follows the last block
    g_in = g
    for step in tl.range(0, N, num_stages=STAGES):
        n = N - 1 - step
        w1 = tl.load(first + n * C * C + at).to(tl.float32)
        w2 = tl.load(second + n * C * C + at).to(tl.float32)
        to = (image * N + n) * C
        ends = n % BLOCKS == BLOCKS - 1
        if DOUBLED:
            g = tl.where(ends, 2 * g, g)
        else:
            g_in = tl.where(ends, g, g_in)
        f = g + tl.load(grad + to + i)
        h = tl.sum(w2 * f[:, None], 0)
        h = tl.where(tl.load(hidden + to + j) > 0, h, h * SLOPE)
        g += tl.sum(w1 * h[None, :], 1)
        tl.store(grad_scales + to + i, f)
        tl.store(grad_hidden + to + j, h)
        if not DOUBLED:
            g = tl.where(n % BLOCKS == 0, g + g_in, g)
    tl.store(grad_head + image * C + i, g)


def forward(code: Tensor, head: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor,
            bias2: Tensor, blocks: int, doubled: bool, config: configs.Config | None = None
            ) -> tuple[Tensor, Tensor, Tensor]:
    """What blocks give, get and hold inside: f2, z and the hidden layer behind its activation, (B, N, C), float32.

    Weights are [out, in], as a convolution has them; no copy is made of a ``weight1`` whose memory is [in, out].
    """
    channels = weight1.shape[1]
    scales, inputs, hidden = (torch.empty(len(code), *weight1.shape[:2], device=code.device) for _ in range(3))
    if len(code):
        config = config or _config("condition_path", code, channels)
        weights, sizes = arguments(code, head, head_bias, weight1, bias1, weight2, bias2, blocks, doubled)
        with torch.cuda.device_of(code):
            forward_kernel[(len(code),)](code.contiguous(), *weights, scales, inputs, hidden, **sizes,
                                         STAGES=config["num_stages"], num_warps=_warps(config, channels))
    return scales, inputs, hidden


def arguments(code: Tensor, head: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor,
              bias2: Tensor, blocks: int, doubled: bool) -> tuple[list[Tensor], dict[str, int]]:
    """The weights as ``forward_kernel`` takes them, and its sizes."""
    (count, channels), length = weight1.shape[:2], code.shape[1]
    weights = [head.contiguous(), head_bias.contiguous(), _in_out(weight1), bias1.contiguous(), weight2.contiguous(),
               bias2.contiguous()]
    return weights, {"N": count, "BLOCKS": blocks, "DOUBLED": doubled, "C": channels, "LENGTH": length,
                     "PADDED": triton.next_power_of_2(length)}


def backward(grad: Tensor, hidden: Tensor, weight1: Tensor, weight2: Tensor, blocks: int, doubled: bool,
             config: configs.Config | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in every block of f2 and of the hidden layer before its activation, (B, N, C); of the head, (B, C)."""
    batch, count, channels = hidden.shape
    grad_scales, grad_hidden = torch.empty_like(hidden), torch.empty_like(hidden)
    grad_head = torch.empty(batch, channels, device=hidden.device)
    if batch:
        config = config or _config("condition_path_backward", hidden, channels)
        with torch.cuda.device_of(hidden):
            backward_kernel[(batch,)](
                grad.contiguous(), hidden, _in_out(weight1), weight2.contiguous(), grad_scales, grad_hidden, grad_head,
                N=count, BLOCKS=blocks, DOUBLED=doubled, C=channels, STAGES=config["num_stages"],
                num_warps=_warps(config, channels))
    return grad_scales, grad_hidden, grad_head


def _in_out(weight: Tensor) -> Tensor:
    return weight.transpose(1, 2).contiguous()


def _warps(config: configs.Config, channels: int) -> int:
    return max(1, config["num_warps"] * channels**2 // 64**2)


def _config(kernel: str, x: Tensor, channels: int) -> configs.Config:
    return configs.choose(kernel, f"C{channels} {'one' if len(x) == 1 else 'many'}", CANDIDATES, x.device)
