"""Triton kernels of ``dan_fast.ops.conv3x3_…`` and ``dan_fast.ops.dpcb``: 3x3 convolutions that finish in registers.

Images are channels_last (B, H, W, C), weights too: [out][tap][in], used where they lie. A program makes a tile of
TH x TW pixels, all C channels, as nine matrix products, one per tap, summed in float32; then the epilogue. Two
kernels differ in how they load, which a configuration calls BOXES:

- 0, ``pointer_kernel``: every thread computes addresses, outside the image it loads nothing; any GPU.
- 9, ``descriptor_kernel``: the copy engine of sm_90 and later (TMA) loads one box per tap and fills it with zeros
  outside the image.

The gradient of the input is the same convolution with the taps in reverse order and input and output channels
exchanged (FLIP).
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
from triton.tools.tensor_descriptor import TensorDescriptor

from . import configs
from .pixel_tiles import channels_last
from .without import without


def pointers(height: int, width: int, warps: int, stages: int) -> configs.Config:
    """A configuration of ``pointer_kernel``."""
    return {"BOXES": 0, "SWAP": 0, "TH": height, "TW": width, "num_warps": warps, "num_stages": stages}


def descriptors(height: int, width: int, warps: int, stages: int, swap: int = 0) -> configs.Config:
    """A configuration of ``descriptor_kernel``."""
    return {"BOXES": 9, "SWAP": swap, "TH": height, "TW": width, "num_warps": warps, "num_stages": stages}


# The first of every list is the default for large images, the last for small ones.
_AMPERE = (pointers(8, 16, 4, 3), pointers(16, 16, 8, 3), pointers(8, 8, 4, 4))
_HOPPER = (descriptors(16, 16, 8, 4), descriptors(8, 16, 4, 4), pointers(8, 16, 4, 4), descriptors(8, 8, 4, 6))
_HOPPER_64 = (descriptors(16, 16, 8, 2, swap=1), descriptors(16, 16, 8, 3, swap=1), descriptors(4, 64, 8, 3, swap=1),
              descriptors(8, 16, 4, 4, swap=1), descriptors(8, 8, 4, 6, swap=1))
# By bits of a value (19: TensorFloat-32) and channels. 12.x has the copy engine, but neither wgmma nor the shared
# memory of 9.0 and 10.0. Full float32 runs on the ordinary units: with more pixels per program it would spill.
TILES: dict[tuple[int, int], configs.Candidates] = {
    (16, 16): {80: _AMPERE, 90: _HOPPER, 120: _AMPERE},
    (16, 32): {80: _AMPERE, 90: _HOPPER, 120: _AMPERE},
    (16, 64): {80: _AMPERE, 90: _HOPPER_64, 120: _AMPERE},
    (19, 16): {80: (pointers(8, 16, 8, 2), pointers(8, 8, 4, 3))},
    (19, 32): {80: (pointers(8, 16, 4, 2), pointers(8, 8, 4, 3))},
    (19, 64): {80: (pointers(8, 16, 8, 3), pointers(8, 8, 4, 3))},
    (32, 16): {80: (pointers(8, 8, 4, 2), pointers(4, 8, 4, 2))},
    (32, 32): {80: (pointers(8, 8, 8, 2), pointers(4, 8, 4, 2))},
    (32, 64): {80: (pointers(4, 8, 8, 2),)},
}


def name(kernel: str = "conv3x3") -> str:
    """The name in ``tuned.json``: float32 in TensorFloat-32 has choices of its own."""
    return f"{kernel}_tf32" if configs.tf32() else kernel


def candidates(x: Tensor) -> configs.Candidates:
    """The configurations for images like ``x``, channels 16, 32 or 64; the first is the default.

    Large tiles read less; small images have too few pixels to give every multiprocessor one.
    """
    return candidates_of(TILES, x)


def candidates_of(every: dict[tuple[int, int], configs.Candidates], x: Tensor) -> configs.Candidates:
    """The configurations in ``every``, a table like ``TILES``, for images like ``x``, the best for their size first.

    Those of the copy engine are missing if it is left out.
    """
    tiles = every[16 if x.dtype.itemsize == 2 else 19 if configs.tf32() else 32, x.shape[1]]
    if without("descriptors"):  # what is for the generation before has none
        tiles = {80: tiles[80]}
    if "small" not in configs.shape_class(x):
        return tiles
    return {capability: tuple(reversed(found)) for capability, found in tiles.items()}


def chosen(kernel: str, x: Tensor, tiles: configs.Candidates) -> configs.Config:
    """The configuration of ``kernel`` for images like ``x``: that in ``tuned.json``, or the default of ``tiles``."""
    config = configs.choose(kernel, configs.shape_class(x), tiles, x.device)
    if config["BOXES"] and without("descriptors"):  # it was tuned
        return configs.candidates_for(tiles, configs.capability(x.device))[0]
    return config


@triton.jit
def place(H, W, TH: tl.constexpr, TW: tl.constexpr):
    """The image and the upper left pixel of this program's tile."""
    across = tl.cdiv(W, TW)
    tiles = across * tl.cdiv(H, TH)
    tile = tl.program_id(0) % tiles
    return tl.program_id(0) // tiles, tile // across * TH, tile % across * TW


@triton.jit
def values_of(image, y0, x0, H, W, C: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr):
    """The offset of a tile's first value in all images; and of its values from that one, (pixels, C), in 32 bits."""
    pixel, channel = tl.arange(0, TH * TW), tl.arange(0, C)
    start = ((image.to(tl.int64) * H + y0) * W + x0) * C
    return start, (pixel // TW * W + pixel % TW)[:, None] * C + channel[None, :]


@triton.jit
def inside_of(y0, x0, H, W, TH: tl.constexpr, TW: tl.constexpr):
    """Which pixels of a tile are in the image, (pixels, 1)."""
    pixel = tl.arange(0, TH * TW)
    row, column = y0 + pixel // TW, x0 + pixel % TW
    return ((row >= 0) & (row < H) & (column >= 0) & (column < W))[:, None]


@triton.jit
def product(values, tap_weight, total, FLIP: tl.constexpr, SWAP: tl.constexpr, WIDEN: tl.constexpr,
            PRECISION: tl.constexpr):
    """Adds one tap: ``values`` (pixels, in), ``tap_weight`` (out, in), or (in, out) with FLIP.

    SWAP: the total is (out, pixels), so that wgmma has few rows and many columns and reads shared memory half as often.
    """
    if WIDEN:  # Triton's interpreter cannot multiply bfloat16
        values, tap_weight = values.to(tl.float32), tap_weight.to(tl.float32)
    if SWAP:
        total = tl.dot(tap_weight.T if FLIP else tap_weight, values.T, total, input_precision=PRECISION)
    else:
        total = tl.dot(values, tap_weight if FLIP else tap_weight.T, total, input_precision=PRECISION)
    return total


@triton.jit
def _finish(total, bias, modulation, modulation_step, other, out, f1, sums, image, y0, x0, H, W, factor,
            EPILOGUE: tl.constexpr, PER_PIXEL: tl.constexpr, C: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr):
    """The epilogue: finishes ``total`` (pixels, C) in registers, in float32, and stores it in ``out``.

    - ``"lrelu"``: lrelu(total + bias), with the slope ``factor``;
    - ``"mask"``: the gradient of that leaky ReLU, whose result was ``other``;
    - ``"add"``: factor * (other + modulation * (total + bias)); ``modulation_step`` is the distance between the values
      of two images, ``factor`` the factor of the group residual.

    ``f1`` gets the total as it was, ``sums`` (programs, C) the sum of the result over the pixels of each program.
    Arguments that are None are left out.
    """
    channel = tl.arange(0, C)
    inside = inside_of(y0, x0, H, W, TH, TW)
    start, at = values_of(image, y0, x0, H, W, C, TH, TW)
    if f1 is not None:
        tl.store(f1 + start + at, total.to(f1.dtype.element_ty), mask=inside)
    if bias is not None:
        total += tl.load(bias + channel).to(tl.float32)[None, :]
    if EPILOGUE == "lrelu":
        total = tl.where(total > 0, total, total * factor)
    if EPILOGUE == "mask":
        total *= tl.where(tl.load(other + start + at, mask=inside, other=0.0).to(tl.float32) > 0, 1.0, factor)
    if EPILOGUE == "add":
        if modulation is not None:
            if PER_PIXEL:
                total *= tl.load(modulation + start + at, mask=inside, other=0.0).to(tl.float32)
            else:
                total *= tl.load(modulation + image * modulation_step + channel).to(tl.float32)[None, :]
        if other is not None:
            total += tl.load(other + start + at, mask=inside, other=0.0).to(tl.float32)
        total *= factor
    if sums is not None:
        tl.store(sums + tl.program_id(0) * C + channel, tl.sum(tl.where(inside, total, 0.0), 0))
    tl.store(out + start + at, total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def sum_by_address(x, weight, image, y0, x0, H, W, taps, FLIP: tl.constexpr, SWAP: tl.constexpr, WIDEN: tl.constexpr,
                   PRECISION: tl.constexpr, C: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr):
    """The convolution of a tile, (pixels, C). ``x`` and ``weight`` are pointers.

    ``taps`` is 9; as a constant it would have the loop unrolled, which spills.
    """
    channel = tl.arange(0, C)
    start, at = values_of(image, y0, x0, H, W, C, TH, TW)
    values_at = x + start + at
    weight_at = weight + channel[:, None] * (9 * C) + channel[None, :]
    total = tl.zeros((C, TH * TW) if SWAP else (TH * TW, C), tl.float32)
    for tap in range(taps):
        dy, dx = tap // 3 - 1, tap % 3 - 1
        inside = inside_of(y0 + dy, x0 + dx, H, W, TH, TW)
        values = tl.load(values_at + (dy * W + dx) * C, mask=inside, other=0.0)
        tap_weight = tl.load(weight_at + (8 - tap if FLIP else tap) * C)
        total = product(values, tap_weight, total, FLIP, SWAP, WIDEN, PRECISION)
    return total.T if SWAP else total


@triton.jit
def sum_of_boxes(x, weight, image, y0, x0, taps, FLIP: tl.constexpr, SWAP: tl.constexpr, WIDEN: tl.constexpr,
                 PRECISION: tl.constexpr, C: tl.constexpr, TH: tl.constexpr, TW: tl.constexpr):
    """The same with descriptors: ``x`` loads (1, TH, TW, C) of (B, H, W, C), ``weight`` (C, C) of (C, 9 * C)."""
    total = tl.zeros((C, TH * TW) if SWAP else (TH * TW, C), tl.float32)
    for tap in range(taps):
        values = x.load([image, y0 + tap // 3 - 1, x0 + tap % 3 - 1, 0]).reshape(TH * TW, C)
        tap_weight = weight.load([0, (8 - tap if FLIP else tap) * C])
        total = product(values, tap_weight, total, FLIP, SWAP, WIDEN, PRECISION)
    return total.T if SWAP else total


@triton.jit
def pointer_kernel(x, weight, bias, modulation, modulation_step, other, out, f1, sums, H, W, taps, factor,
                   EPILOGUE: tl.constexpr, PER_PIXEL: tl.constexpr, FLIP: tl.constexpr, SWAP: tl.constexpr,
                   WIDEN: tl.constexpr, PRECISION: tl.constexpr, EARLY: tl.constexpr, C: tl.constexpr, TH: tl.constexpr,
                   TW: tl.constexpr):
    """One tile of the convolution and its epilogue. EARLY: see ``configs.starts_early``."""
    if EARLY:
        gdc_wait()
    image, y0, x0 = place(H, W, TH, TW)
    total = sum_by_address(x, weight, image, y0, x0, H, W, taps, FLIP, SWAP, WIDEN, PRECISION, C, TH, TW)
    if EARLY:
        gdc_launch_dependents()
    _finish(total, bias, modulation, modulation_step, other, out, f1, sums, image, y0, x0, H, W, factor, EPILOGUE,
            PER_PIXEL, C, TH, TW)


@triton.jit
def descriptor_kernel(x, weight, bias, modulation, modulation_step, other, out, f1, sums, H, W, taps, factor,
                      EPILOGUE: tl.constexpr, PER_PIXEL: tl.constexpr, FLIP: tl.constexpr, SWAP: tl.constexpr,
                      WIDEN: tl.constexpr, PRECISION: tl.constexpr, EARLY: tl.constexpr, C: tl.constexpr,
                      TH: tl.constexpr, TW: tl.constexpr):
    """The same with ``x`` and ``weight`` as descriptors."""
    if EARLY:
        gdc_wait()
    image, y0, x0 = place(H, W, TH, TW)
    total = sum_of_boxes(x, weight, image, y0, x0, taps, FLIP, SWAP, WIDEN, PRECISION, C, TH, TW)
    if EARLY:
        gdc_launch_dependents()
    _finish(total, bias, modulation, modulation_step, other, out, f1, sums, image, y0, x0, H, W, factor, EPILOGUE,
            PER_PIXEL, C, TH, TW)


def bias_lrelu(x: Tensor, weight: Tensor, bias: Tensor, slope: float, config: configs.Config | None = None) -> Tensor:
    """Leaky ReLU of the convolution, channels_last, in the dtype of ``x``."""
    out = torch.empty_like(x, memory_format=torch.channels_last)
    _launch(x, weight, out, "lrelu", slope, bias=bias, config=config)
    return out


def scale_residual(x: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor, residual: Tensor, store: bool = False,
                   config: configs.Config | None = None, residual_factor: float = 1.0
                   ) -> tuple[Tensor, Tensor | None]:
    """``residual_factor * (residual + modulation * (f1 + bias))`` with ``f1 = conv(x)``, dtype of ``residual``.

    With ``store`` also f1.
    """
    out = torch.empty_like(residual, memory_format=torch.channels_last)
    f1 = torch.empty_like(x, memory_format=torch.channels_last) if store else None
    _launch(x, weight, out, "add", residual_factor, bias=bias, modulation=modulation, other=residual, f1=f1,
            config=config)
    return out, f1


def input_gradient(grad: Tensor, weight: Tensor, activated: Tensor | None, slope: float, add: Tensor | None,
                   config: configs.Config | None = None) -> Tensor:
    """Gradient of the convolution's input, plus ``add``; or of the leaky ReLU before, which returned ``activated``."""
    out = torch.empty_like(grad, memory_format=torch.channels_last)
    if activated is not None:
        _launch(grad, weight, out, "mask", slope, flip=True, other=activated, config=config)
    else:
        _launch(grad, weight, out, "add", 1.0, flip=True, other=add, config=config)
    return out


def activation_gradient(grad: Tensor, weight: Tensor, activated: Tensor, slope: float,
                        config: configs.Config | None = None) -> tuple[Tensor, Tensor]:
    """``input_gradient`` with ``activated``, and its sum over images and pixels, (C,), float32, before rounding.

    Programs sum up what they have in registers, in a fixed order; only their sums are read again.
    """
    out = torch.empty_like(grad, memory_format=torch.channels_last)
    sums = _launch(grad, weight, out, "mask", slope, flip=True, other=activated, add_up=True, config=config)
    return out, grad.new_zeros(grad.shape[1], dtype=torch.float32) if sums is None else sums.sum(0)


def _launch(x: Tensor, weight: Tensor, out: Tensor, epilogue: str, factor: float, *, bias: Tensor | None = None,
            modulation: Tensor | None = None, other: Tensor | None = None, f1: Tensor | None = None,
            flip: bool = False, add_up: bool = False, config: configs.Config | None = None) -> Tensor | None:
    """Launch a GPU kernel for all tiles; with ``add_up``, return the sums of each program; None without an image."""
    if not x.numel():
        return None
    x, weight = aligned(x), aligned(weight)
    batch, _, height, width = x.shape
    config = config or chosen(name(), x, candidates(x))
    per_pixel = modulation is not None and modulation.dim() == 4
    if modulation is not None:
        if per_pixel:
            modulation = aligned(modulation)
        elif modulation.stride(1) != 1:
            modulation = modulation.contiguous()
    kernel = {0: pointer_kernel, 9: descriptor_kernel}[config["BOXES"]]
    tile = config["TH"], config["TW"]
    load_x, load_weight = (boxes_of(x, tile), taps_of(weight)) if config["BOXES"] else (x, weight)
    programs = batch * triton.cdiv(height, tile[0]) * triton.cdiv(width, tile[1])
    sums = torch.empty(programs, x.shape[1], device=x.device, dtype=torch.float32) if add_up else None
    with torch.cuda.device_of(x):
        kernel[(programs,)](
            x=load_x, weight=load_weight, bias=None if bias is None else bias.contiguous(), modulation=modulation,
            modulation_step=0 if modulation is None or per_pixel else modulation.stride(0),
            other=None if other is None else aligned(other), out=out, f1=f1, sums=sums, H=height, W=width, taps=9,
            factor=float(factor), EPILOGUE=epilogue, PER_PIXEL=per_pixel, FLIP=flip, **options(x, config))
    return sums


def options(x: Tensor, config: configs.Config) -> dict[str, Any]:
    """By name the constants and options that every GPU kernel with a 3x3 convolution is launched with."""
    early = configs.starts_early(x.device)
    return {"SWAP": bool(config["SWAP"]), "WIDEN": triton.knobs.runtime.interpret and x.dtype == torch.bfloat16,
            "PRECISION": "tf32" if configs.tf32() and x.dtype == torch.float32 else "ieee", "EARLY": early,
            "C": x.shape[1], "TH": config["TH"], "TW": config["TW"], "num_warps": config["num_warps"],
            "num_stages": config["num_stages"], "launch_pdl": early}


def boxes_of(x: Tensor, tile: tuple[int, int]) -> TensorDescriptor:
    """A descriptor that loads (1, height, width, C) of an image (B, C, H, W), channels_last."""
    batch, channels, height, width = x.shape
    return TensorDescriptor(x, [batch, height, width, channels],
                            [height * width * channels, width * channels, channels, 1], [1, *tile, channels])


def taps_of(weight: Tensor) -> TensorDescriptor:
    """A descriptor that loads a tap (C, C) of a weight (C, C, 3, 3), channels_last."""
    channels = len(weight)
    return TensorDescriptor(weight, [channels, 9 * channels], [9 * channels, 1], [channels, channels])


def aligned(x: Tensor) -> Tensor:
    """``x`` in channels_last memory from a multiple of 16 bytes on, copied only if it lies otherwise."""
    x = channels_last(x)
    return x if x.data_ptr() % 16 == 0 else x.clone()  # as the copy engine needs it
