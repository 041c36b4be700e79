"""Triton kernels of ``dan_fast.ops.modulate``: ``x + (f1 + bias) * f2``, and its gradients in one pass.

All images are channels_last, so an image is a matrix (pixels, C) and a program takes some of its rows, whole.
Arithmetic is float32, in the order of the reference.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from . import configs
from .images import channels_last, parts_of, tiles_of

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
def forward_kernel(x, f1, f2, bias, out, pixels, C: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Program (i, b): rows i * ROWS and on of image b."""
    image, first = tl.program_id(1), tl.program_id(0) * ROWS
    row, channel = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    inside = (first + row < pixels)[:, None] & (channel < C)[None, :]
    start = (image.to(tl.int64) * pixels + first) * C
    at = row[:, None] * C + channel[None, :]
    scale = tl.load(f2 + image * C + channel, mask=channel < C, other=0.0).to(tl.float32)
    value = tl.load(f1 + start + at, mask=inside, other=0.0).to(tl.float32)
    if bias is not None:
        value += tl.load(bias + channel, mask=channel < C, other=0.0).to(tl.float32)[None, :]
    result = tl.load(x + start + at, mask=inside, other=0.0).to(tl.float32) + value * scale[None, :]
    tl.store(out + start + at, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(grad, f1, f2, grad_f1, sums, pixels, rows_each,
                    C: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Program (i, b): ``rows_each`` rows of image b; ``sums[b, i]`` gets its sums of grad * f1 and of grad."""
    image, part = tl.program_id(1), tl.program_id(0)
    row, channel = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    scale = tl.load(f2 + image * C + channel, mask=channel < C, other=0.0).to(tl.float32)
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
        tl.store(grad_f1 + start + at, (g * scale[None, :]).to(grad_f1.dtype.element_ty), mask=inside)
    to = sums + ((image * tl.num_programs(0) + part) * 2) * C + channel
    tl.store(to, tl.sum(products, 0), mask=channel < C)
    tl.store(to + C, tl.sum(plain, 0), mask=channel < C)


@triton.jit
def reduce_kernel(sums, f2, bias, grad_f2, grad_bias, parts,
                  C: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Program b: adds up the sums of image b, always in the same order."""
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
        scale = tl.load(f2 + image * C + channel, mask=channel < C, other=0.0).to(tl.float32)
        tl.store(grad_bias + image * C + channel, total * scale, mask=channel < C)
    tl.store(grad_f2 + image * C + channel, result.to(grad_f2.dtype.element_ty), mask=channel < C)


def forward(x: Tensor, f1: Tensor, f2: Tensor, bias: Tensor | None, config: configs.Config | None = None) -> Tensor:
    """``x + (f1 + bias) * f2``, channels_last, in the dtype of ``x``."""
    x, f1 = channels_last(x), channels_last(f1)
    config = config or configs.choose("modulate", configs.shape_class(x), FORWARD, x.device)
    out = torch.empty_like(x)
    images, channels, pixels, rows, columns = tiles_of(x, config["BLOCK"])
    if x.numel():
        with torch.cuda.device_of(x):
            forward_kernel[(triton.cdiv(pixels, rows), images)](
                x, f1, f2.contiguous(), bias, out, pixels, C=channels, ROWS=rows, COLUMNS=columns,
                num_warps=config["num_warps"])
    return out


def backward(grad: Tensor, f1: Tensor, f2: Tensor, bias: Tensor | None, config: configs.Config | None = None
             ) -> tuple[Tensor, Tensor, Tensor | None]:
    """Gradients of ``f1``, ``f2`` and ``bias`` from that of the output; the gradient of ``x`` is ``grad`` itself."""
    grad, f1, f2 = channels_last(grad), channels_last(f1), f2.contiguous()
    if not f1.numel():
        return torch.empty_like(f1), torch.zeros_like(f2), None if bias is None else torch.zeros_like(bias)
    config = config or configs.choose("modulate_backward", configs.shape_class(f1), BACKWARD, f1.device)
    images, channels, pixels, rows, columns = tiles_of(f1, config["BLOCK"])
    parts, rows_each = parts_of(pixels, rows, config["PROGRAMS"] // images)
    sums = torch.empty(images, parts, 2, channels, device=f1.device, dtype=torch.float32)
    grad_f1, grad_f2 = torch.empty_like(f1), torch.empty_like(f2)
    grad_bias = None if bias is None else torch.empty_like(f2, dtype=torch.float32)
    with torch.cuda.device_of(f1):
        backward_kernel[(parts, images)](grad, f1, f2, grad_f1, sums, pixels, rows_each,
                                         C=channels, ROWS=rows, COLUMNS=columns, num_warps=config["num_warps"])
        reduce_kernel[(images,)](sums, f2, bias, grad_f2, grad_bias, parts,
                                 C=channels, ROWS=max(1, 2048 // columns), COLUMNS=columns, num_warps=4)
    if bias is not None and grad_bias is not None:
        grad_bias = grad_bias.sum(0).to(bias.dtype)
    return grad_f1, grad_f2, grad_bias
