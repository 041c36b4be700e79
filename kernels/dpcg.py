"""Triton kernels of ``dan_fast.ops.dpcg``: a block of the Estimator's body in two launches.

A block is four 3x3 convolutions: two of the image x, two of its condition z. The first launch makes the first of both,
with bias and leaky ReLU: half of its programs work on x, half on z. In the second a program makes, for one tile, the
second of both and ends the block: ``f2 = conv(z_activated) + c2``, ``z <- z + f2``, ``x <- residual_factor * (x + f2 *
(conv(activated) + b2))``. f2 never leaves the registers. Loads and products are those of ``conv3x3``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from . import configs, conv3x3
from .conv3x3 import (
    aligned,
    boxes_of,
    descriptors,
    inside_of,
    place,
    pointers,
    product,
    sum_by_address,
    sum_of_boxes,
    taps_of,
    values_of,
)

Pair = tuple[Tensor, Tensor]

# Two tables like ``conv3x3.TILES``. The second launch has two sums in registers, and twice the loads in shared memory.
FIRST: dict[tuple[int, int], configs.Candidates] = dict(conv3x3.TILES)
FIRST[19, 32] = FIRST[19, 64] = {80: (pointers(8, 16, 8, 2), pointers(8, 8, 8, 2))}
_AMPERE = (pointers(8, 16, 8, 3), pointers(16, 16, 8, 3), pointers(8, 8, 4, 4))
_HOPPER = (descriptors(16, 16, 8, 3), descriptors(8, 16, 4, 4), pointers(8, 16, 4, 3), descriptors(8, 8, 4, 6))
_AMPERE_64 = (pointers(8, 16, 8, 3), pointers(8, 8, 4, 3))
_HOPPER_64 = (descriptors(8, 16, 8, 3, swap=1), descriptors(8, 16, 8, 2, swap=1), descriptors(16, 16, 8, 2, swap=1),
              descriptors(8, 8, 4, 4, swap=1))
SECOND: dict[tuple[int, int], configs.Candidates] = {
    (16, 16): {80: _AMPERE, 90: _HOPPER, 120: _AMPERE},
    (16, 32): {80: _AMPERE, 90: _HOPPER, 120: _AMPERE},
    (16, 64): {80: _AMPERE_64, 90: _HOPPER_64, 120: _AMPERE_64},
    (19, 16): {80: (pointers(8, 16, 8, 2), pointers(8, 8, 4, 3))},
    (19, 32): {80: (pointers(8, 16, 8, 2), pointers(8, 8, 4, 3))},
    (19, 64): {80: (pointers(8, 16, 8, 2), pointers(8, 8, 4, 2))},
    (32, 16): {80: (pointers(8, 8, 8, 2), pointers(4, 8, 4, 2))},
    (32, 32): {80: (pointers(8, 8, 8, 2), pointers(4, 8, 8, 2))},
    (32, 64): {80: (pointers(4, 8, 8, 2),)},
}


@triton.jit
def first_kernel(x, z, weight1, z_weight1, bias1, z_bias1, activated, z_activated, H, W, taps, slope,
                 BOXES: tl.constexpr, SWAP: tl.constexpr, WIDEN: tl.constexpr, PRECISION: tl.constexpr,
                 EARLY: tl.constexpr, C: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr):
    """Program (i, 0): tile i of ``activated``; (i, 1): of ``z_activated``.

    Images and weights are pointers, or descriptors (BOXES).
    """
    if EARLY:
        gdc_wait()
    image, y0, x0 = place(H, W, TH, TW)
    if tl.program_id(1) == 1:  # two branches that multiply would take shared memory twice
        x, weight1, bias1, activated = z, z_weight1, z_bias1, z_activated
    if BOXES:
        total = sum_of_boxes(x, weight1, image, y0, x0, taps, False, SWAP, WIDEN, PRECISION, C, TH, TW)
    else:
        total = sum_by_address(x, weight1, image, y0, x0, H, W, taps, False, SWAP, WIDEN, PRECISION, C, TH, TW)
    if EARLY:
        gdc_launch_dependents()
    total += tl.load(bias1 + tl.arange(0, C)).to(tl.float32)[None, :]
    total = tl.where(total > 0, total, total * slope)
    start, at = values_of(image, y0, x0, H, W, C, TH, TW)
    tl.store(activated + start + at, total.to(activated.dtype.element_ty), mask=inside_of(y0, x0, H, W, TH, TW))


@triton.jit
def second_kernel(activated, z_activated, weight2, z_weight2, bias2, z_bias2, x, z, out, z_out, H, W, taps,
                  residual_factor, BOXES: tl.constexpr, SWAP: tl.constexpr, WIDEN: tl.constexpr,
                  PRECISION: tl.constexpr, EARLY: tl.constexpr, C: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr):
    """Program i: tile i of ``out`` and ``z_out``; ``z_out`` is None in the last block, whose z is not needed.

    ``activated``, ``z_activated`` and weights are pointers, or descriptors (BOXES); ``x``, ``z``, ``out`` and
    ``z_out`` are pointers.
    """
    if EARLY:
        gdc_wait()
    image, y0, x0 = place(H, W, TH, TW)
    channel = tl.arange(0, C)
    start, at = values_of(image, y0, x0, H, W, C, TH, TW)
    weight_at = channel[:, None] * (9 * C) + channel[None, :]
    total = tl.zeros((C, TH * TW) if SWAP else (TH * TW, C), tl.float32)
    f2 = tl.zeros((C, TH * TW) if SWAP else (TH * TW, C), tl.float32)
    for tap in range(taps):
        dy, dx = tap // 3 - 1, tap % 3 - 1
        if BOXES:
            z_values = z_activated.load([image, y0 + dy, x0 + dx, 0]).reshape(TH * TW, C)
            z_tap = z_weight2.load([0, tap * C])
            values = activated.load([image, y0 + dy, x0 + dx, 0]).reshape(TH * TW, C)
            tap_weight = weight2.load([0, tap * C])
        else:
            inside = inside_of(y0 + dy, x0 + dx, H, W, TH, TW)
            z_values = tl.load(z_activated + start + at + (dy * W + dx) * C, mask=inside, other=0.0)
            z_tap = tl.load(z_weight2 + weight_at + tap * C)
            values = tl.load(activated + start + at + (dy * W + dx) * C, mask=inside, other=0.0)
            tap_weight = tl.load(weight2 + weight_at + tap * C)
        f2 = product(z_values, z_tap, f2, False, SWAP, WIDEN, PRECISION)
        total = product(values, tap_weight, total, False, SWAP, WIDEN, PRECISION)
    if EARLY:
        gdc_launch_dependents()
    if SWAP:
        f2, total = f2.T, total.T
    inside = inside_of(y0, x0, H, W, TH, TW)
    f2 += tl.load(z_bias2 + channel).to(tl.float32)[None, :]
    if z_out is not None:
        sum = tl.load(z + start + at, mask=inside, other=0.0).to(tl.float32) + f2
        tl.store(z_out + start + at, sum.to(z_out.dtype.element_ty), mask=inside)
    total += tl.load(bias2 + channel).to(tl.float32)[None, :]
    total = (total * f2 + tl.load(x + start + at, mask=inside, other=0.0).to(tl.float32)) * residual_factor
    tl.store(out + start + at, total.to(out.dtype.element_ty), mask=inside)


def first(x: Tensor, z: Tensor, weight1: Tensor, bias1: Tensor, z_weight1: Tensor, z_bias1: Tensor, slope: float,
          config: configs.Config | None = None) -> tuple[Tensor, Tensor]:
    """Leaky ReLU of the convolutions of ``x`` and ``z``, channels_last."""
    x, z = aligned(x), aligned(z)
    config = config or conv3x3.chosen(conv3x3.name("dpcg_first"), x, conv3x3.candidates_of(FIRST, x))
    activated, z_activated = torch.empty_like(x), torch.empty_like(z)
    (load_x, load_z), (load_weight, load_z_weight) = _loads((x, z), (weight1, z_weight1), config)
    with torch.cuda.device_of(x):
        first_kernel[(_tiles(x, config), 2)](
            x=load_x, z=load_z, weight1=load_weight, z_weight1=load_z_weight, bias1=bias1.contiguous(),
            z_bias1=z_bias1.contiguous(), activated=activated, z_activated=z_activated, H=x.shape[2], W=x.shape[3],
            taps=9, slope=float(slope), BOXES=config["BOXES"], **conv3x3.options(x, config))
    return activated, z_activated


def second(activated: Tensor, z_activated: Tensor, weight2: Tensor, bias2: Tensor, z_weight2: Tensor, z_bias2: Tensor,
           x: Tensor, z: Tensor, residual_factor: float, last: bool, config: configs.Config | None = None
           ) -> tuple[Tensor, Tensor | None]:
    """The end of a block, with ``f2 = conv(z_activated) + z_bias2``.

    Returns:
        ``residual_factor * (x + f2 * (conv(activated) + bias2))``, and ``z + f2``, or None if ``last``.
    """
    activated, z_activated, x, z = aligned(activated), aligned(z_activated), aligned(x), aligned(z)
    config = config or conv3x3.chosen(conv3x3.name("dpcg_second"), activated, conv3x3.candidates_of(SECOND, activated))
    out, z_out = torch.empty_like(x), None if last else torch.empty_like(z)
    loads, (load_weight, load_z_weight) = _loads((activated, z_activated), (weight2, z_weight2), config)
    with torch.cuda.device_of(x):
        second_kernel[(_tiles(x, config),)](
            activated=loads[0], z_activated=loads[1], weight2=load_weight, z_weight2=load_z_weight,
            bias2=bias2.contiguous(), z_bias2=z_bias2.contiguous(), x=x, z=z, out=out, z_out=z_out, H=x.shape[2],
            W=x.shape[3], taps=9, residual_factor=float(residual_factor), BOXES=config["BOXES"],
            **conv3x3.options(activated, config))
    return out, z_out


def _tiles(x: Tensor, config: configs.Config) -> int:
    return x.shape[0] * triton.cdiv(x.shape[2], config["TH"]) * triton.cdiv(x.shape[3], config["TW"])


def _loads(images: Pair, weights: Pair, config: configs.Config) -> tuple[Sequence[Any], Sequence[Any]]:
    """Images and weights as the GPU kernels load them: pointers or descriptors."""
    weights = aligned(weights[0]), aligned(weights[1])
    if not config["BOXES"]:
        return images, weights
    return [boxes_of(image, (config["TH"], config["TW"])) for image in images], [taps_of(weight) for weight in weights]
