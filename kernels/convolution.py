"""Triton kernel of ``dan_fast.ops.convolution`` and ``dan_fast.ops.upsampler``: a network's layers between its blocks.

A convolution of any odd size on the grid, with zero padding and bias, one launch each. A program makes TH x TW pixels
and all output channels, as one matrix product per tap, summed in float32. Images of any strides and dtype are read, so
that a user's image needs no copy; the result is channels_last.

With RING the outermost pixels have filters of their own, by whether they lie at the start, inside or at the end of
their column and of their row. All nine are parts of one weight of 11x11 taps, along each axis::

    0 1 2 | 3 4 5 6 7 | 8 9 10        the taps of the first pixel, of those inside, of the last one
    ^           ^           ^         which meet the pixel itself

Tiles cover the inside; further programs, each a run of pixels in a row or column, the edges; four more the corners.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from . import configs


def _tile(height: int, width: int, warps: int, stages: int) -> configs.Config:
    return {"TH": height, "TW": width, "num_warps": warps, "num_stages": stages}


# By bits of a value; the first is the default for large images and the last for small ones.
TILES: dict[int, configs.Candidates] = {
    16: {80: (_tile(8, 16, 4, 3), _tile(8, 16, 4, 4), _tile(8, 8, 4, 3))},
    32: {80: (_tile(4, 8, 4, 2), _tile(4, 4, 4, 2))},
}
SIDE = tl.constexpr(11)  # taps of a weight with RING, along an axis
REACH = tl.constexpr(2)


def candidates(x: Tensor, weight: Tensor) -> configs.Candidates:
    """The configurations for images like ``x`` and weights like ``weight``; the first is the default."""
    found = TILES[8 * weight.dtype.itemsize]
    if "small" not in configs.shape_class(x):
        return found
    return {capability: tuple(reversed(tiles)) for capability, tiles in found.items()}


@triton.jit
def _first_tap(place, RING: tl.constexpr):
    """The first tap in the weight for a place along an axis: 0 is the first pixel, 1 inside, 2 the last pixel."""
    return tl.where(place == 0, 0, tl.where(place == 1, 1 + REACH, SIDE - 1 - REACH)) if RING else 0


@triton.jit
def _taps(place, SIZE: tl.constexpr, RING: tl.constexpr):
    """The number of taps of a place along an axis."""
    return tl.where(place == 1, 2 * REACH + 1, REACH + 1) if RING else SIZE


@triton.jit
def _own_tap(place, SIZE: tl.constexpr, RING: tl.constexpr):
    """The tap that meets the pixel itself."""
    return place * (SIDE // 2) if RING else SIZE // 2


@triton.jit
def convolution_kernel(x, weight, bias, out, H, W, image_step, channel_step, row_step, column_step,
                       RING: tl.constexpr, SIZE: tl.constexpr, IN: tl.constexpr, LANES_IN: tl.constexpr,
                       OUT: tl.constexpr, LANES_OUT: tl.constexpr, WIDEN: tl.constexpr, PRECISION: tl.constexpr,
                       EARLY: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr):
    """``weight`` is [out][row][column][in], ``bias`` [out], or [row's place][column's place][out] with RING.

    The steps are strides of ``x``. LANES_IN and LANES_OUT are IN and OUT rounded up to powers of two.
    EARLY: see ``configs.starts_early``.
    """
    if EARLY:
        gdc_wait()
    PIXELS: tl.constexpr = TH * TW
    edge: tl.constexpr = 1 if RING else 0
    image, part = tl.program_id(1), tl.program_id(0)
    across = tl.cdiv(W - 2 * edge, TW)
    tiles = across * tl.cdiv(H - 2 * edge, TH)
    pixel = tl.arange(0, PIXELS)
    down, right = 1, 1  # places of the program's pixels
    row = edge + part // across * TH + pixel // TW
    column = edge + part % across * TW + pixel % TW
    last_row, last_column = H - edge, W - edge  # beyond
    if RING:
        # Runs in the first and the last row, then in the first and the last column, then the corners.
        runs, falls = tl.cdiv(W - 2, PIXELS), tl.cdiv(H - 2, PIXELS)
        run = part - tiles
        fall = run - 2 * runs
        corner = fall - 2 * falls
        if run >= 0:
            if fall < 0:
                down = run // runs * 2
                row = tl.where(down == 0, 0, H - 1) + pixel * 0
                column = 1 + run % runs * PIXELS + pixel
                last_row = H
            elif corner < 0:
                right = fall // falls * 2
                row = 1 + fall % falls * PIXELS + pixel
                column = tl.where(right == 0, 0, W - 1) + pixel * 0
                last_column = W
            else:
                down, right = corner // 2 * 2, corner % 2 * 2
                row = tl.where(down == 0, 0, H - 1) + pixel
                column = tl.where(right == 0, 0, W - 1) + pixel * 0
                last_row, last_column = tl.where(down == 0, 1, H), W
    channel, output = tl.arange(0, LANES_IN), tl.arange(0, LANES_OUT)
    size: tl.constexpr = SIDE if RING else SIZE
    rows, columns = _taps(down, SIZE, RING), _taps(right, SIZE, RING)
    first_row, first_column = _first_tap(down, RING), _first_tap(right, RING)
    begin_row = row + first_row - _own_tap(down, SIZE, RING)
    begin_column = column + first_column - _own_tap(right, SIZE, RING)
    x += image.to(tl.int64) * image_step
    known = (channel < IN)[None, :]
    weight_at = weight + output[:, None] * (size * size * IN) + channel[None, :]
    known_weight = (output < OUT)[:, None] & known
    total = tl.zeros((PIXELS, LANES_OUT), tl.float32)
    for tap in range(rows * columns):
        tap_row, tap_column = tap // columns, tap % columns
        y, z = begin_row + tap_row, begin_column + tap_column
        inside = ((y >= 0) & (y < H) & (z >= 0) & (z < W))[:, None] & known
        at = (y.to(tl.int64)[:, None] * row_step + z.to(tl.int64)[:, None] * column_step
              + channel[None, :] * channel_step)
        values = tl.load(x + at, mask=inside, other=0.0).to(weight.dtype.element_ty)
        place = (first_row + tap_row) * size + first_column + tap_column
        taps = tl.load(weight_at + place * IN, mask=known_weight, other=0.0)
        if WIDEN:  # Triton's interpreter cannot multiply bfloat16
            values, taps = values.to(tl.float32), taps.to(tl.float32)
        total = tl.dot(values, taps.T, total, input_precision=PRECISION)
    if EARLY:
        gdc_launch_dependents()
    if RING:
        bias += (down * 3 + right) * OUT
    total += tl.load(bias + output, mask=output < OUT, other=0.0).to(tl.float32)[None, :]
    stored = ((row < last_row) & (column < last_column))[:, None] & (output < OUT)[None, :]
    at = ((image.to(tl.int64) * H + row) * W + column)[:, None] * OUT + output[None, :]
    tl.store(out + at, total.to(out.dtype.element_ty), mask=stored)


def convolution(x: Tensor, weight: Tensor, bias: Tensor, config: configs.Config | None = None) -> Tensor:
    """``x`` in the dtype of ``weight``, convolved; channels_last."""
    return _launch("convolution", x, weight, bias, False, config)


def upsampler(x: Tensor, weight: Tensor, bias: Tensor, config: configs.Config | None = None) -> Tensor:
    """The cells of features ``x``: ``weight`` (O, C, 11, 11) and ``bias`` (3, 3, O), as at the top of this file."""
    return _launch("upsampler", x, weight, bias, True, config)


def _launch(name: str, x: Tensor, weight: Tensor, bias: Tensor, ring: bool, config: configs.Config | None) -> Tensor:
    batch, channels, height, width = x.shape
    outputs, size = weight.shape[0], weight.shape[2]
    out = torch.empty(batch, height, width, outputs, dtype=weight.dtype, device=x.device).permute(0, 3, 1, 2)
    if not out.numel():
        return out
    config = config or configs.choose(name, configs.shape_class(x), candidates(x, weight), x.device)
    weight = weight.contiguous(memory_format=torch.channels_last)
    tile = config["TH"], config["TW"]
    edge = int(ring)
    parts = triton.cdiv(height - 2 * edge, tile[0]) * triton.cdiv(width - 2 * edge, tile[1])
    if ring:
        parts += 2 * sum(triton.cdiv(length - 2, tile[0] * tile[1]) for length in (height, width)) + 4
    early = configs.starts_early(x.device)
    with torch.cuda.device_of(x):
        convolution_kernel[(parts, batch)](
            x=x, weight=weight, bias=bias.contiguous(), out=out, H=height, W=width, image_step=x.stride(0),
            channel_step=x.stride(1), row_step=x.stride(2), column_step=x.stride(3), RING=ring, SIZE=size,
            IN=channels, LANES_IN=max(16, triton.next_power_of_2(channels)),
            OUT=outputs, LANES_OUT=max(16, triton.next_power_of_2(outputs)),
            WIDEN=triton.knobs.runtime.interpret and weight.dtype == torch.bfloat16,
            PRECISION="tf32" if weight.dtype == torch.float32 and configs.tf32() else "ieee",
            EARLY=early, TH=tile[0], TW=tile[1], num_warps=config["num_warps"], num_stages=config["num_stages"],
            launch_pdl=early)
    return out
