"""Triton kernels of ``dan_fast.ops.estimator_tail``: from the Estimator's last image to blur kernel and code.

The mean of a 3x3 convolution needs nine sums per channel, one for each tap: the whole image, less the border row and
column that the tap does not reach, plus the corner that both took away. So the image is read once, by many programs
(first launch); the rest, one program per image, is small (second launch). Arithmetic is float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import configs
from .pixel_tiles import channels_last, parts_of, tiles_of

# PARTS: programs of the first launch over all images. TILE: values of a weight's tile in the second, of TAIL_WARPS.
CANDIDATES: configs.Candidates = {80: (
    {"BLOCK": 2048, "num_warps": 4, "PARTS": 256, "TILE": 8192, "TAIL_WARPS": 8, "STAGES": 2},
    {"BLOCK": 4096, "num_warps": 8, "PARTS": 128, "TILE": 8192, "TAIL_WARPS": 8, "STAGES": 2},
    {"BLOCK": 2048, "num_warps": 4, "PARTS": 256, "TILE": 4096, "TAIL_WARPS": 8, "STAGES": 3},
)}


@triton.jit
def sum_kernel(x, sums, height, width, parts, rows_each, C: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Program (i, image) writes ``sums[image, i]``: the sum of ``rows_each`` pixels that follow one another.

    The last four programs write the sums of the first and last row and of the first and last column.
    """
    part, image = tl.program_id(0), tl.program_id(1)
    pixels = height * width
    border = part - parts
    # A program adds up ``count`` pixels from ``begin`` on, ``step`` apart.
    down = border >= 2
    step = tl.where(down, width, 1)
    begin = tl.where(border < 0, part * rows_each,
                     tl.where(border == 1, pixels - width, tl.where(border == 3, width - 1, 0)))
    count = tl.where(border < 0, tl.minimum(rows_each, pixels - begin), tl.where(down, height, width))
    row, channel = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    at = row[:, None] * (step * C) + channel[None, :]
    sum = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, count, ROWS):
        inside = (first + row < count)[:, None] & (channel < C)[None, :]
        start = (image.to(tl.int64) * pixels + begin + first * step) * C
        sum += tl.load(x + start + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(sums + (image * (parts + 4) + part) * C + channel, tl.sum(sum, 0), mask=channel < C)


@triton.jit
def tail_kernel(x, sums, conv_weight, conv_bias, out_weight, out_bias, encoder, kernel, code, windows, mean_out,
                height, width, parts, channel_step, tap_step,
                C: tl.constexpr, F: tl.constexpr, TAPS: tl.constexpr, LENGTH: tl.constexpr, ROWS: tl.constexpr,
                COLUMNS: tl.constexpr, FEATURES: tl.constexpr, CODE: tl.constexpr, CHUNK: tl.constexpr,
                STAGES: tl.constexpr):
    """Program b: everything after the sums of image b.

    ``channel_step`` and ``tap_step`` are strides of ``conv_weight``; TAPS is k * k.
    """
    image = tl.program_id(0)
    row, channel, feature = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, FEATURES)
    known = channel < C
    pixels = height * width

    parts_sum = tl.zeros((ROWS, COLUMNS), tl.float32)
    sums += image * (parts + 4) * C
    for first in range(0, parts, ROWS):
        inside = (first + row < parts)[:, None] & known[None, :]
        parts_sum += tl.load(sums + (first + row)[:, None] * C + channel[None, :], mask=inside, other=0.0)
    whole = tl.sum(parts_sum, 0)

    # Offset 0 is the tap above or left of the pixel: it does not reach the last row or column.
    product = tl.zeros((FEATURES, COLUMNS), tl.float32)
    for down in tl.static_range(3):
        for right in tl.static_range(3):
            window = whole
            if down != 1:
                window -= tl.load(sums + (parts + 1 - down // 2) * C + channel, mask=known, other=0.0)
            if right != 1:
                window -= tl.load(sums + (parts + 3 - right // 2) * C + channel, mask=known, other=0.0)
            if down != 1 and right != 1:
                corner = (1 - down // 2) * (pixels - width) + (1 - right // 2) * (width - 1)
                at = (image.to(tl.int64) * pixels + corner) * C + channel
                window += tl.load(x + at, mask=known, other=0.0).to(tl.float32)
            tl.store(windows + (image * C + channel) * 9 + down * 3 + right, window, mask=known)
            at = feature[:, None] * (9 * C) + channel[None, :] * channel_step + (down * 3 + right) * tap_step
            tile = tl.load(conv_weight + at, mask=(feature < F)[:, None] & known[None, :], other=0.0)
            product += tile.to(tl.float32) * window[None, :]
    bias = tl.load(conv_bias + feature, mask=feature < F, other=0.0).to(tl.float32)
    mean = tl.sum(product, 1) / pixels + bias
    tl.store(mean_out + image * F + feature, mean, mask=feature < F)

    # Softmax and projection in one pass over the logits: ``peak`` is the largest so far, ``total`` the sum of
    # exp(logit - peak), ``projected`` the sum of exp(logit - peak) times the logit's row of the encoder.
    length = tl.arange(0, CODE)
    peak = float("-inf")
    total = 0.0
    projected = tl.zeros((CODE,), tl.float32)
    kernel += image * TAPS
    for first in tl.range(0, TAPS, CHUNK, num_stages=STAGES):
        tap = first + tl.arange(0, CHUNK)
        weight = tl.load(out_weight + tap[:, None] * F + feature[None, :],
                         mask=(tap < TAPS)[:, None] & (feature < F)[None, :], other=0.0).to(tl.float32)
        rows = tl.load(encoder + tap[:, None] * LENGTH + length[None, :],
                       mask=(tap < TAPS)[:, None] & (length < LENGTH)[None, :], other=0.0).to(tl.float32)
        logit = tl.sum(weight * mean[None, :], 1)
        logit += tl.load(out_bias + tap, mask=tap < TAPS, other=float("-inf")).to(tl.float32)
        tl.store(kernel + tap, logit, mask=tap < TAPS)
        new_peak = tl.maximum(peak, tl.max(logit, 0))
        shrink = tl.exp(peak - new_peak)
        value = tl.exp(logit - new_peak)
        total = total * shrink + tl.sum(value, 0)
        projected = projected * shrink + tl.sum(rows * value[:, None], 0)
        peak = new_peak
    tl.store(code + image * LENGTH + length, projected / total, mask=length < LENGTH)

    tl.debug_barrier()  # other threads wrote the logits
    for first in range(0, TAPS, CHUNK):
        tap = first + tl.arange(0, CHUNK)
        logit = tl.load(kernel + tap, mask=tap < TAPS, other=0.0)
        tl.store(kernel + tap, tl.exp(logit - peak) / total, mask=tap < TAPS)


class Tail(NamedTuple):
    """The launch of ``tail_kernel`` that follows ``launch_sums``.

    Attributes:
        results: kernel (B, k*k), code (B, c), the sums that each tap meets (B, C, 3, 3) and the convolution's mean
            (B, F), float32.
        arguments, sizes: the GPU kernel's arguments and constants, by name.
        warps: its num_warps.
    """

    results: tuple[Tensor, Tensor, Tensor, Tensor]
    arguments: dict[str, Any]
    sizes: dict[str, int]
    warps: int


def forward(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor, encoder: Tensor,
            config: configs.Config | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Kernel (B, k*k), code (B, c), the sums that each tap meets (B, C, 3, 3) and the mean (B, F), all float32."""
    tail = launch_sums(x, conv_weight, conv_bias, out_weight, out_bias, encoder, config)
    if len(x):
        with torch.cuda.device_of(x):
            tail_kernel[(len(x),)](**tail.arguments, **tail.sizes, num_warps=tail.warps)
    return tail.results


def launch_sums(x: Tensor, conv_weight: Tensor, conv_bias: Tensor, out_weight: Tensor, out_bias: Tensor,
                encoder: Tensor, config: configs.Config | None = None) -> Tail:
    """Launch the sums, and return the launch that must follow."""
    x = channels_last(x)
    batch, channels, height, width = x.shape
    taps, length, mean_size = len(out_weight), encoder.shape[1], len(conv_weight)
    results = kernel, code, windows, mean = (
        torch.empty(batch, taps, device=x.device), torch.empty(batch, length, device=x.device),
        torch.empty(batch, channels, 3, 3, device=x.device), torch.empty(batch, mean_size, device=x.device))
    if not batch:
        return Tail(results, {}, {}, 1)
    config = config or configs.choose("estimator_tail", configs.shape_class(x), CANDIDATES, x.device)
    _, _, pixels, rows, columns = tiles_of(x, config["BLOCK"])
    parts, rows_each = parts_of(pixels, rows, config["PARTS"] // batch)
    sums = torch.empty(batch, parts + 4, channels, device=x.device, dtype=torch.float32)
    if not conv_weight.is_contiguous(memory_format=torch.channels_last):
        conv_weight = conv_weight.contiguous()
    mean_columns, code_columns = triton.next_power_of_2(mean_size), triton.next_power_of_2(length)
    chunk = max(1, config["TILE"] // max(mean_columns, code_columns))
    with torch.cuda.device_of(x):
        sum_kernel[(parts + 4, batch)](x, sums, height, width, parts, rows_each, C=channels, ROWS=rows,
                                       COLUMNS=columns, num_warps=config["num_warps"])
    arguments = {"x": x, "sums": sums, "conv_weight": conv_weight, "conv_bias": conv_bias.contiguous(),
                 "out_weight": out_weight.contiguous(), "out_bias": out_bias.contiguous(),
                 "encoder": encoder.contiguous(), "kernel": kernel, "code": code, "windows": windows, "mean_out": mean,
                 "height": height, "width": width, "parts": parts, "channel_step": conv_weight.stride(1),
                 "tap_step": conv_weight.stride(3)}
    sizes = {"C": channels, "F": mean_size, "TAPS": taps, "LENGTH": length, "ROWS": min(rows, 64), "COLUMNS": columns,
             "FEATURES": mean_columns, "CODE": code_columns, "CHUNK": min(triton.next_power_of_2(taps), chunk),
             "STAGES": config["STAGES"]}
    return Tail(results, arguments, sizes, config["TAIL_WARPS"])
