"""Triton kernel of ``dan_fast.ops.next_condition``: the end of an iteration and the beginning of the next.

The second launch of ``estimator_tail`` is one program per image, and so is ``condition_path``, which begins with the
code that the first ends with: one program does both, with the arithmetic of both.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import condition_path, configs, estimator_tail
from .condition_path import forward_kernel
from .estimator_tail import tail_kernel

STAGES = {80: 4, 89: 3, 90: 4}  # by capability, for the path's weights; 8.9 has only 99 KB of shared memory
WARPS = 16  # with 8, as each of the two alone has, registers would spill


@triton.jit
def tail_and_path_kernel(
        x, sums, conv_weight, conv_bias, out_weight, out_bias, encoder, kernel, code, windows, mean_out, height, width,
        parts, channel_step, tap_step, head_weight, head_bias, weight1, bias1, weight2, bias2, modulation,
        TAIL_C: tl.constexpr, F: tl.constexpr, TAPS: tl.constexpr, LENGTH: tl.constexpr, ROWS: tl.constexpr,
        COLUMNS: tl.constexpr, FEATURES: tl.constexpr, CODE: tl.constexpr, CHUNK: tl.constexpr,
        TAIL_STAGES: tl.constexpr, N: tl.constexpr, BLOCKS: tl.constexpr, DOUBLED: tl.constexpr, C: tl.constexpr,
        PADDED: tl.constexpr, STAGES: tl.constexpr):
    """Program b: everything after the sums of image b, up to the modulation of all blocks."""
    tail_kernel(x, sums, conv_weight, conv_bias, out_weight, out_bias, encoder, kernel, code, windows, mean_out, height,
                width, parts, channel_step, tap_step, C=TAIL_C, F=F, TAPS=TAPS, LENGTH=LENGTH, ROWS=ROWS,
                COLUMNS=COLUMNS, FEATURES=FEATURES, CODE=CODE, CHUNK=CHUNK, STAGES=TAIL_STAGES)
    tl.debug_barrier()  # other threads wrote the code
    forward_kernel(code, head_weight, head_bias, weight1, bias1, weight2, bias2, modulation, None, None, N=N,
                   BLOCKS=BLOCKS, DOUBLED=DOUBLED, C=C, LENGTH=LENGTH, PADDED=PADDED, STAGES=STAGES)


def forward(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor, encoder: Tensor,
            head_weight: Tensor, head_bias: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor,
            blocks: int, group_residual: str) -> tuple[Tensor, Tensor, Tensor]:
    """Kernel (B, k*k), code (B, c) and modulation (B, N, C), all float32."""
    tail = estimator_tail.launch_sums(x, conv_weight, conv_bias, out_weight, out_bias, encoder)
    kernel, code, _, _ = tail.results
    modulation = torch.empty(len(x), *weight1.shape[:2], device=x.device)
    if len(x):
        path = (head_weight, head_bias, weight1, bias1, weight2, bias2)
        weights, sizes = condition_path.arguments(code, *path, blocks, group_residual)
        capability = configs.capability(x.device)
        stages = STAGES[max((known for known in STAGES if known <= capability), default=80)]
        with torch.cuda.device_of(x):
            tail_and_path_kernel[(len(x),)](
                **tail.arguments, **weights, modulation=modulation, TAIL_C=tail.sizes["C"],
                TAIL_STAGES=tail.sizes["STAGES"] if tail.sizes["FEATURES"] <= 64 else 1,
                **{**tail.sizes, **sizes, "STAGES": stages}, num_warps=WARPS)
    return kernel, code, modulation
