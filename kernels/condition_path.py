"""Triton kernels of ``dan_fast.ops.condition_path``: all blocks of the chain in one launch, forward and backward.

One program per image walks the whole chain: z stays in registers, the weights stream through shared memory, fetched
some blocks ahead. On a large batch every program reads all weights again, from the L2 cache; tiles of images with
tensor cores would not be exact in float32. Arithmetic is float32 whatever the dtype of the weights.

Two layouts of vectors take turns, so that none moves between threads: the input of a product lies along one axis
of the weight's tile, its result along the other. Hence the GPU kernels take ``weight1`` as [in, out], ``weight2`` as
[out, in].
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import configs
from .activation import SLOPE

# num_warps for C = 64; a smaller tile gets fewer, so that each thread keeps as many values.
CANDIDATES: configs.Candidates = {
    80: ({"num_warps": 8, "num_stages": 4}, {"num_warps": 4, "num_stages": 4}),
    89: ({"num_warps": 8, "num_stages": 3}, {"num_warps": 4, "num_stages": 3}),  # 99 KB of shared memory
    90: ({"num_warps": 8, "num_stages": 4}, {"num_warps": 4, "num_stages": 4}, {"num_warps": 8, "num_stages": 6}),
}


@triton.jit
def forward_kernel(code, head_weight, head_bias, weight1, bias1, weight2, bias2, modulation, z_inputs, hidden,
                   N: tl.constexpr, BLOCKS: tl.constexpr, DOUBLED: tl.constexpr, C: tl.constexpr,
                   LENGTH: tl.constexpr, PADDED: tl.constexpr, STAGES: tl.constexpr):
    """Program b: the whole chain of image b. ``z_inputs`` and ``hidden``, which only gradients need, may be None."""
    image = tl.program_id(0)
    i, j, k = tl.arange(0, C), tl.arange(0, C), tl.arange(0, PADDED)
    values = tl.load(code + image * LENGTH + k, mask=k < LENGTH, other=0.0).to(tl.float32)
    tile = tl.load(head_weight + i[:, None] * LENGTH + k[None, :], mask=(k < LENGTH)[None, :], other=0.0).to(tl.float32)
    z = tl.sum(tile * values[None, :], 1) + tl.load(head_bias + i).to(tl.float32)
    z_in = z
    at = i[:, None] * C + j[None, :]
    for n in tl.range(0, N, num_stages=STAGES):
        w1 = tl.load(weight1 + n * C * C + at).to(tl.float32)
        w2 = tl.load(weight2 + n * C * C + at).to(tl.float32)
        h = tl.sum(w1 * z[:, None], 0) + tl.load(bias1 + n * C + j).to(tl.float32)
        h = tl.where(h > 0, h, h * SLOPE)
        f2 = tl.sum(w2 * h[None, :], 1) + tl.load(bias2 + n * C + i).to(tl.float32)
        to = (image * N + n) * C
        if z_inputs is not None:
            tl.store(z_inputs + to + i, z)
            tl.store(hidden + to + j, h)
        tl.store(modulation + to + i, f2)
        z += f2
        # One loop over the blocks of all groups, so that fetching ahead does not stop at the end of a group.
        ends = n % BLOCKS == BLOCKS - 1
        if DOUBLED:
            z = tl.where(ends, 2 * z, z)
        else:
            z = tl.where(ends, z_in + z, z)
            z_in = tl.where(ends, z, z_in)


@triton.jit
def backward_kernel(grad, hidden, weight1, weight2, grad_f2, grad_linear, grad_head,
                    N: tl.constexpr, BLOCKS: tl.constexpr, DOUBLED: tl.constexpr, C: tl.constexpr,
                    STAGES: tl.constexpr):
    """Program b: image b, from the last block to the first.

    ``g`` is the gradient of z behind a block, then before it.
    """
    image = tl.program_id(0)
    i, j = tl.arange(0, C), tl.arange(0, C)
    at = i[:, None] * C + j[None, :]
    g = tl.zeros((C,), tl.float32)  # nothing follows the last block
    g_in = g
    for step in tl.range(0, N, num_stages=STAGES):
        n = N - 1 - step
        w1 = tl.load(weight1 + n * C * C + at).to(tl.float32)
        w2 = tl.load(weight2 + n * C * C + at).to(tl.float32)
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
        tl.store(grad_f2 + to + i, f)
        tl.store(grad_linear + to + j, h)
        if not DOUBLED:
            g = tl.where(n % BLOCKS == 0, g + g_in, g)
    tl.store(grad_head + image * C + i, g)


def forward(code: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor,
            bias2: Tensor, blocks: int, group_residual: str, config: configs.Config | None = None
            ) -> tuple[Tensor, Tensor, Tensor]:
    """For every block f2, the z that it gets and its activated hidden layer, (B, N, C) each, float32.

    Weights are [out, in], as a convolution has them; no copy is made of a ``weight1`` whose memory is [in, out].
    """
    channels = weight1.shape[1]
    modulation, z_inputs, hidden = (torch.empty(len(code), *weight1.shape[:2], device=code.device) for _ in range(3))
    if len(code):
        config = config or _config("condition_path", code, channels)
        weights, sizes = arguments(code, head_weight, head_bias, weight1, bias1, weight2, bias2, blocks, group_residual)
        with torch.cuda.device_of(code):
            forward_kernel[(len(code),)](
                code=code.contiguous(), **weights, modulation=modulation, z_inputs=z_inputs, hidden=hidden, **sizes,
                STAGES=config["num_stages"], num_warps=_warps(config, channels))
    return modulation, z_inputs, hidden


def arguments(code: Tensor, head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor,
              bias2: Tensor, blocks: int, group_residual: str) -> tuple[dict[str, Tensor], dict[str, int]]:
    """By name the weights as ``forward_kernel`` takes them, and its sizes."""
    (count, channels), length = weight1.shape[:2], code.shape[1]
    weights = {"head_weight": head_weight.contiguous(), "head_bias": head_bias.contiguous(),
               "weight1": _in_out(weight1), "bias1": bias1.contiguous(), "weight2": weight2.contiguous(),
               "bias2": bias2.contiguous()}
    return weights, {"N": count, "BLOCKS": blocks, "DOUBLED": group_residual == "doubled", "C": channels,
                     "LENGTH": length, "PADDED": triton.next_power_of_2(length)}


def backward(grad: Tensor, hidden: Tensor, weight1: Tensor, weight2: Tensor, blocks: int, group_residual: str,
             config: configs.Config | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of f2 and of the linear hidden layer of every block, (B, N, C), and of the head's output, (B, C)."""
    batch, count, channels = hidden.shape
    grad_f2, grad_linear = torch.empty_like(hidden), torch.empty_like(hidden)
    grad_head = torch.empty(batch, channels, device=hidden.device)
    if batch:
        config = config or _config("condition_path_backward", hidden, channels)
        with torch.cuda.device_of(hidden):
            backward_kernel[(batch,)](
                grad=grad.contiguous(), hidden=hidden, weight1=_in_out(weight1), weight2=weight2.contiguous(),
                grad_f2=grad_f2, grad_linear=grad_linear, grad_head=grad_head, N=count, BLOCKS=blocks,
                DOUBLED=group_residual == "doubled", C=channels, STAGES=config["num_stages"],
                num_warps=_warps(config, channels))
    return grad_f2, grad_linear, grad_head


def _in_out(weight: Tensor) -> Tensor:
    return weight.transpose(1, 2).contiguous()


def _warps(config: configs.Config, channels: int) -> int:
    return max(1, config["num_warps"] * channels**2 // 64**2)


def _config(kernel: str, x: Tensor, channels: int) -> configs.Config:
    return configs.choose(kernel, f"C{channels} {'one' if len(x) == 1 else 'many'}", CANDIDATES, x.device)
