"""Triton kernels of ``dan_fast.ops.modulate``: ``x + (f1 + bias) * f2``, and its gradients in one pass.

``modulation`` is the paper's f2. Images are channels_last: matrices (pixels, C), of which a program takes whole rows.
Arithmetic is float32, in the order of the reference.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import configs
from .pixel_tiles import channels_last, parts_of, tiles_of

FORWARD: configs.Candidates = {80: (
    {"BLOCK": 4096, "num_warps": 4},
    {"BLOCK": 2048, "num_warps": 4},
    {"BLOCK": 8192, "num_warps": 8},
)}
BACKWARD: configs.Candidates = {80: (
    {"BLOCK": 2048, "num_warps": 4, "PROGRAMS": 1024},
    {"BLOCK": 4096, "num_warps": 8, "PROGRAMS": 512},
)}


@triton.jit
def forward_kernel(x, f1, modulation, bias, out, pixels, C: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Program (i, b): ROWS rows of image b, from row i * ROWS on."""
    image, first = tl.program_id(1), tl.program_id(0) * ROWS
    row, channel = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    inside = (first + row < pixels)[:, None] & (channel < C)[None, :]
    start = (image.to(tl.int64) * pixels + first) * C
    at = row[:, None] * C + channel[None, :]
    f2 = tl.load(modulation + image * C + channel, mask=channel < C, other=0.0).to(tl.float32)
    value = tl.load(f1 + start + at, mask=inside, other=0.0).to(tl.float32)
    if bias is not None:
        value += tl.load(bias + channel, mask=channel < C, other=0.0).to(tl.float32)[None, :]
    result = tl.load(x + start + at, mask=inside, other=0.0).to(tl.float32) + value * f2[None, :]
    tl.store(out + start + at, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(grad, f1, modulation, grad_f1, sums, pixels, rows_each,
                    C: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Program (i, b): ``rows_each`` rows of image b; ``sums[b, i]`` gets its sums of grad * f1 and of grad."""
    image, part = tl.program_id(1), tl.program_id(0)
    row, channel = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    f2 = tl.load(modulation + image * C + channel, mask=channel < C, other=0.0).to(tl.float32)
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    plain = tl.zeros((ROWS, COLUMNS), tl.float32)
    at = row[:, None] * C + channel[None, :]
    begin = part * rows_each
    for first in range(begin, tl.minimum(begin + rows_each, pixels), ROWS):
        inside = (first + row < pixels)[:, None] & (channel < C)[None, :]
        start = (image.to(tl.int64) * pixels + first) * C
        g = tl.load(grad + start + at, mask=inside, other=0.0).to(tl.float32)
        products += g * tl.load(f1 + start + at, mask=inside, other=0.0).to(tl.float32)
        plain += g
        tl.store(grad_f1 + start + at, (g * f2[None, :]).to(grad_f1.dtype.element_ty), mask=inside)
    to = sums + ((image * tl.num_programs(0) + part) * 2) * C + channel
    tl.store(to, tl.sum(products, 0), mask=channel < C)
    tl.store(to + C, tl.sum(plain, 0), mask=channel < C)


@triton.jit
def reduce_kernel(sums, modulation, bias, grad_modulation, grad_bias, parts,
                  C: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Program b adds up the sums of image b, always in the same order."""
    image = tl.program_id(0)
    row, channel = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    products = tl.zeros((ROWS, COLUMNS), tl.float32)
    plain = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, parts, ROWS):
        inside = (first + row < parts)[:, None] & (channel < C)[None, :]
        at = sums + ((image * parts + first + row) * 2)[:, None] * C + channel[None, :]
        products += tl.load(at, mask=inside, other=0.0)
        plain += tl.load(at + C, mask=inside, other=0.0)
    result = tl.sum(products, 0)
    if bias is not None:
        total = tl.sum(plain, 0)
        result += total * tl.load(bias + channel, mask=channel < C, other=0.0).to(tl.float32)
        f2 = tl.load(modulation + image * C + channel, mask=channel < C, other=0.0).to(tl.float32)
        tl.store(grad_bias + image * C + channel, total * f2, mask=channel < C)
    tl.store(grad_modulation + image * C + channel, result.to(grad_modulation.dtype.element_ty), mask=channel < C)


def forward(x: Tensor, f1: Tensor, modulation: Tensor, bias: Tensor | None, config: configs.Config | None = None
            ) -> Tensor:
    """``x + (f1 + bias) * f2``, channels_last, in the dtype of ``x``."""
    x, f1 = channels_last(x), channels_last(f1)
    config = config or configs.choose("modulate", configs.shape_class(x), FORWARD, x.device)
    out = torch.empty_like(x)
    images, channels, pixels, rows, columns = tiles_of(x, config["BLOCK"])
    if x.numel():
        with torch.cuda.device_of(x):
            forward_kernel[(triton.cdiv(pixels, rows), images)](
                x, f1, modulation.contiguous(), bias, out, pixels, C=channels, ROWS=rows, COLUMNS=columns,
                num_warps=config["num_warps"])
    return out


def backward(grad: Tensor, f1: Tensor, modulation: Tensor, bias: Tensor | None, config: configs.Config | None = None
             ) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of ``f1``, ``modulation`` and ``bias``; that of ``x`` is ``grad`` itself, that of the output."""
    grad, f1, modulation = channels_last(grad), channels_last(f1), modulation.contiguous()
    if not f1.numel():
        return torch.empty_like(f1), torch.zeros_like(modulation), None if bias is None else torch.zeros_like(bias)
    config = config or configs.choose("modulate_backward", configs.shape_class(f1), BACKWARD, f1.device)
    images, channels, pixels, rows, columns = tiles_of(f1, config["BLOCK"])
    parts, rows_each = parts_of(pixels, rows, config["PROGRAMS"] // images)
    sums = torch.empty(images, parts, 2, channels, device=f1.device, dtype=torch.float32)
    grad_f1, grad_modulation = torch.empty_like(f1), torch.empty_like(modulation)
    grad_bias = None if bias is None else torch.empty_like(modulation, dtype=torch.float32)
    with torch.cuda.device_of(f1):
        backward_kernel[(parts, images)](grad, f1, modulation, grad_f1, sums, pixels, rows_each,
                                         C=channels, ROWS=rows, COLUMNS=columns, num_warps=config["num_warps"])
        reduce_kernel[(images,)](sums, modulation, bias, grad_modulation, grad_bias, parts,
                                 C=channels, ROWS=max(1, 2048 // columns), COLUMNS=columns, num_warps=4)
    if bias is not None and grad_bias is not None:
        grad_bias = grad_bias.sum(0).to(bias.dtype)
    return grad_f1, grad_modulation, grad_bias
