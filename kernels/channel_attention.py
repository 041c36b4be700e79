"""Triton kernels of ``dan_fast.ops.channel_attention``: ``residual + y * gate(mean(y))`` in two launches, and back.

The gate needs the whole image first. So a first launch adds up parts of every image, and each program of a second
adds up the parts, always in the same order, and computes the gate for itself: a few thousand multiply-adds
and a read from the L2 cache cost less than a launch in between. The backward pass is the same two launches:
sums of grad * y, then the gradients. Arithmetic is float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import configs
from .activation import SLOPE
from .pixel_tiles import channels_last, parts_of, tiles_of

# Programs of the first launch (PARTS) and of the second, over all images. Every program of the second reads
# PARTS / images partial sums.
CANDIDATES: configs.Candidates = {80: (
    {"BLOCK": 2048, "num_warps": 4, "PARTS": 128, "PROGRAMS": 512},
    {"BLOCK": 4096, "num_warps": 8, "PARTS": 128, "PROGRAMS": 256},
    {"BLOCK": 4096, "num_warps": 8, "PARTS": 256, "PROGRAMS": 512},
)}


@triton.jit
def sum_kernel(a, b, sums, pixels, rows_each, C: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Program (i, image): ``sums[image, i]`` gets the sums over ``rows_each`` pixels of a, or of a * b."""
    image, part = tl.program_id(1), tl.program_id(0)
    row, channel = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    at = row[:, None] * C + channel[None, :]
    sum = tl.zeros((ROWS, COLUMNS), tl.float32)
    begin = part * rows_each
    for first in range(begin, tl.minimum(begin + rows_each, pixels), ROWS):
        inside = (first + row < pixels)[:, None] & (channel < C)[None, :]
        start = (image.to(tl.int64) * pixels + first) * C
        value = tl.load(a + start + at, mask=inside, other=0.0).to(tl.float32)
        if b is not None:
            value *= tl.load(b + start + at, mask=inside, other=0.0).to(tl.float32)
        sum += value
    tl.store(sums + (image * tl.num_programs(0) + part) * C + channel, tl.sum(sum, 0), mask=channel < C)


@triton.jit
def _total(sums, image, parts, C: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The sum of the image's parts."""
    row, channel = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    sum = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, parts, ROWS):
        inside = (first + row < parts)[:, None] & (channel < C)[None, :]
        sum += tl.load(sums + (image * parts + first + row)[:, None] * C + channel[None, :], mask=inside, other=0.0)
    return tl.sum(sum, 0)


@triton.jit
def _gate(mean, weight1, bias1, weight2, bias2,
          C: tl.constexpr, COLUMNS: tl.constexpr, S: tl.constexpr, HIDDEN: tl.constexpr):
    """The hidden layer, the gate, and the tiles of both weights, (COLUMNS, HIDDEN)."""
    unit, channel = tl.arange(0, HIDDEN), tl.arange(0, COLUMNS)
    inside = (channel < C)[:, None] & (unit < S)[None, :]
    w1 = tl.load(weight1 + channel[:, None] + unit[None, :] * C, mask=inside, other=0.0).to(tl.float32)
    w2 = tl.load(weight2 + channel[:, None] * S + unit[None, :], mask=inside, other=0.0).to(tl.float32)
    hidden = tl.sum(w1 * mean[:, None], 0) + tl.load(bias1 + unit, mask=unit < S, other=0.0).to(tl.float32)
    hidden = tl.where(hidden > 0, hidden, hidden * SLOPE)
    before = tl.sum(w2 * hidden[None, :], 1) + tl.load(bias2 + channel, mask=channel < C, other=0.0).to(tl.float32)
    return hidden, 1 / (1 + tl.exp(-before)), w1, w2


@triton.jit
def forward_kernel(y, residual, weight1, bias1, weight2, bias2, sums, out, means, pixels, parts, rows_each,
                   C: tl.constexpr, S: tl.constexpr, HIDDEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Program (i, image): ``rows_each`` pixels of the image; the first also writes the means."""
    image, begin = tl.program_id(1), tl.program_id(0) * rows_each
    row, channel = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    mean = _total(sums, image, parts, C, ROWS, COLUMNS) / pixels
    _, gate, _, _ = _gate(mean, weight1, bias1, weight2, bias2, C, COLUMNS, S, HIDDEN)
    if begin == 0:
        tl.store(means + image * C + channel, mean, mask=channel < C)
    at = row[:, None] * C + channel[None, :]
    for first in range(begin, tl.minimum(begin + rows_each, pixels), ROWS):
        inside = (first + row < pixels)[:, None] & (channel < C)[None, :]
        start = (image.to(tl.int64) * pixels + first) * C
        result = tl.load(residual + start + at, mask=inside, other=0.0).to(tl.float32)
        result += tl.load(y + start + at, mask=inside, other=0.0).to(tl.float32) * gate[None, :]
        tl.store(out + start + at, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(grad, weight1, bias1, weight2, bias2, means, sums, grad_y, outer, inner, hidden,
                    pixels, parts, rows_each,
                    C: tl.constexpr, S: tl.constexpr, HIDDEN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Program (i, image): ``rows_each`` pixels of ``grad_y``.

    The first also writes the gradients of both layers before their activations, and the hidden layer.
    """
    image, begin = tl.program_id(1), tl.program_id(0) * rows_each
    row, channel, unit = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, HIDDEN)
    mean = tl.load(means + image * C + channel, mask=channel < C, other=0.0)
    active, gate, w1, w2 = _gate(mean, weight1, bias1, weight2, bias2, C, COLUMNS, S, HIDDEN)
    of_outer = _total(sums, image, parts, C, ROWS, COLUMNS) * gate * (1 - gate)
    of_inner = tl.sum(w2 * of_outer[:, None], 0)
    of_inner = tl.where(active > 0, of_inner, of_inner * SLOPE)
    of_pixel = tl.sum(w1 * of_inner[None, :], 1) / pixels
    if begin == 0:
        tl.store(outer + image * C + channel, of_outer, mask=channel < C)
        tl.store(inner + image * S + unit, of_inner, mask=unit < S)
        tl.store(hidden + image * S + unit, active, mask=unit < S)
    at = row[:, None] * C + channel[None, :]
    for first in range(begin, tl.minimum(begin + rows_each, pixels), ROWS):
        inside = (first + row < pixels)[:, None] & (channel < C)[None, :]
        start = (image.to(tl.int64) * pixels + first) * C
        g = tl.load(grad + start + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(grad_y + start + at, (g * gate[None, :] + of_pixel[None, :]).to(grad_y.dtype.element_ty), mask=inside)


def forward(y: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, residual: Tensor,
            config: configs.Config | None = None) -> tuple[Tensor, Tensor]:
    """The result, channels_last in the dtype of ``residual``, and the means of y, (B, C) float32."""
    y, residual = channels_last(y), channels_last(residual)
    out, means = torch.empty_like(residual), torch.empty(y.shape[:2], device=y.device, dtype=torch.float32)
    if not y.numel():
        return out, means.zero_()
    config = config or configs.choose("channel_attention", configs.shape_class(y), CANDIDATES, y.device)
    weights = _contiguous(weight1=weight1, bias1=bias1, weight2=weight2, bias2=bias2)
    images, sizes, pixels, programs, rows_each = _second_launch(y, weight1, config)
    with torch.cuda.device_of(y):
        sums, parts = _sums(y, None, config)
        forward_kernel[(programs, images)](
            y=y, residual=residual, **weights, sums=sums, out=out, means=means, pixels=pixels, parts=parts,
            rows_each=rows_each, **sizes, num_warps=config["num_warps"])
    return out, means


def backward(grad: Tensor, y: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, means: Tensor,
             config: configs.Config | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of y, of the gate (B, C) and the hidden layer (B, S) before their activations; and the hidden layer."""
    grad, y = channels_last(grad), channels_last(y)
    grad_y = torch.empty_like(y)
    outer, inner, hidden = (means.new_empty(len(y), width) for width in (len(weight2), len(weight1), len(weight1)))
    if not y.numel():
        return grad_y, outer.zero_(), inner.zero_(), hidden.zero_()
    config = config or configs.choose("channel_attention_backward", configs.shape_class(y), CANDIDATES, y.device)
    weights = _contiguous(weight1=weight1, bias1=bias1, weight2=weight2, bias2=bias2)
    images, sizes, pixels, programs, rows_each = _second_launch(y, weight1, config)
    with torch.cuda.device_of(y):
        sums, parts = _sums(grad, y, config)
        backward_kernel[(programs, images)](
            grad=grad, **weights, means=means, sums=sums, grad_y=grad_y, outer=outer, inner=inner, hidden=hidden,
            pixels=pixels, parts=parts, rows_each=rows_each, **sizes, num_warps=config["num_warps"])
    return grad_y, outer, inner, hidden


def _sums(a: Tensor, b: Tensor | None, config: configs.Config) -> tuple[Tensor, int]:
    """Partial sums (B, parts, C) of ``a`` or of ``a * b``, and the number of parts."""
    images, channels, pixels, rows, columns = tiles_of(a, config["BLOCK"])
    parts, rows_each = parts_of(pixels, rows, config["PARTS"] // images)
    sums = torch.empty(images, parts, channels, device=a.device, dtype=torch.float32)
    sum_kernel[(parts, images)](a, b, sums, pixels, rows_each, C=channels, ROWS=rows, COLUMNS=columns,
                                num_warps=config["num_warps"])
    return sums, parts


def _second_launch(y: Tensor, weight1: Tensor, config: configs.Config) -> tuple[int, dict[str, int], int, int, int]:
    """Images, the kernel's constants, pixels of an image, programs for it, and the rows of each."""
    images, channels, pixels, rows, columns = tiles_of(y, config["BLOCK"])
    programs, rows_each = parts_of(pixels, rows, config["PROGRAMS"] // images)
    sizes = {"C": channels, "S": len(weight1), "HIDDEN": triton.next_power_of_2(len(weight1)),
             "ROWS": rows, "COLUMNS": columns}
    return images, sizes, pixels, programs, rows_each


def _contiguous(**tensors: Tensor) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in tensors.items()}
