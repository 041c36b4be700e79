"""The rounding error of Winograd's F(4x4, 3x3) on any machine: the bound for compiled code.

The algorithm of ``csrc/conv3x3/winograd.h`` in PyTorch: every operation in float64, its result rounded to float32. It
errs as the algorithm does, with the points 0, +-5/8, +-3/2 and infinity and sums over half of the input channels each.
Nothing in it depends on the machine, as a bound of PyTorch's own error in float32 would: that changes threefold with
the instruction set. A fused multiply-add rounds once where this rounds twice, so compiled code errs a little less;
where a constant is wrong or a sum longer, it errs more.

In units of 2^-24 of the root mean square of a result of random numbers, a convolution of 16, 32, 48, 64 or 80 channels
errs by 8.5, 10.4, 9.7, 10.8 or 11.5. Three quarters are the sums' over the channels: with one sum instead of two halves
it would be 13.3 with 64.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

NEAR, FAR = 5 / 8, 3 / 2  # the points, with both signs
POINTS = (0.0, NEAR, -NEAR, FAR, -FAR)
MARGIN = 1.15  # for the chance in a few thousand pixels; compiled code was seen to err by 0.82 to 0.99 of this


def rounded(x: Tensor) -> Tensor:
    return x.float().double()


def multiply_add(factor: float, x: Tensor, y: Tensor) -> Tensor:
    return rounded(rounded(factor * x) + y)


def transform_input(d: tuple[Tensor, ...]) -> list[Tensor]:
    near2, far2 = NEAR**2, FAR**2
    even_near, odd_near = multiply_add(-far2, d[2], d[4]), multiply_add(-far2, d[1], d[3])
    even_far, odd_far = multiply_add(-near2, d[2], d[4]), multiply_add(-near2, d[1], d[3])
    return [multiply_add(near2 * far2, d[0], multiply_add(-near2 - far2, d[2], d[4])),
            multiply_add(NEAR, odd_near, even_near), multiply_add(-NEAR, odd_near, even_near),
            multiply_add(FAR, odd_far, even_far), multiply_add(-FAR, odd_far, even_far),
            multiply_add(near2 * far2, d[1], multiply_add(-near2 - far2, d[3], d[5]))]


def transform_output(m: tuple[Tensor, ...]) -> list[Tensor]:
    even_near, odd_near = rounded(m[1] + m[2]), rounded(m[1] - m[2])
    even_far, odd_far = rounded(m[3] + m[4]), rounded(m[3] - m[4])
    return [rounded(rounded(m[0] + even_near) + even_far),
            multiply_add(NEAR, odd_near, rounded(FAR * odd_far)),
            multiply_add(NEAR**2, even_near, rounded(FAR**2 * even_far)),
            multiply_add(FAR**3, odd_far, multiply_add(NEAR**3, odd_near, m[5]))]


def filter_matrix() -> Tensor:
    """(6, 3): taps to their values at the points, with the divisors of the interpolation."""
    rows = [[point**power / math.prod(point - other for other in POINTS if other != point) for power in range(3)]
            for point in POINTS]
    return torch.tensor([*rows, [0.0, 0.0, 1.0]], dtype=torch.float64)


def both_sides(transform, x: Tensor, first: int) -> Tensor:
    """``transform`` of dimension ``first`` and of the next one."""
    for dimension in (first, first + 1):
        x = torch.stack(transform(x.unbind(dimension)), dimension)
    return x


def convolve(x: Tensor, weight: Tensor) -> Tensor:
    """(B, I, H, W), (O, I, 3, 3) -> (B, O, H, W) float64 whose values are float32 numbers."""
    batch, channels, height, width = x.shape
    down, along = math.ceil(height / 4), math.ceil(width / 4)
    padded = F.pad(x.double(), (1, 4 * along - width + 1, 1, 4 * down - height + 1))
    values = both_sides(transform_input, padded.unfold(2, 6, 4).unfold(3, 6, 4), 4)  # (B, I, down, along, 6, 6)
    filters = filter_matrix()
    taps = rounded(torch.einsum("iu,ocuv,jv->cijo", filters, weight.double(), filters))
    values = values.permute(1, 4, 5, 0, 2, 3).reshape(channels, 6, 6, -1, 1)
    filled = math.ceil(channels / 16) * 16  # the compiled code has multiples of 16
    run = filled // 2 if filled > 32 else filled
    total = torch.zeros(())
    for begin in range(0, channels, run):
        part = torch.zeros(6, 6, values.shape[3], len(weight), dtype=torch.float64)
        for channel in range(begin, min(begin + run, channels)):
            part = rounded(part + rounded(values[channel] * taps[channel, :, :, None]))
        total = rounded(total + part)
    tiles = both_sides(transform_output, total, 0).reshape(4, 4, batch, down, along, len(weight))
    return tiles.permute(2, 5, 3, 0, 4, 1).reshape(batch, len(weight), 4 * down, 4 * along)[..., :height, :width]


def transform_gradient(g: tuple[Tensor, ...]) -> list[Tensor]:
    near2, far2 = NEAR**2, FAR**2
    even_near, odd_near = multiply_add(near2, g[2], g[0]), rounded(NEAR * multiply_add(near2, g[3], g[1]))
    even_far, odd_far = multiply_add(far2, g[2], g[0]), rounded(FAR * multiply_add(far2, g[3], g[1]))
    return [g[0], rounded(even_near + odd_near), rounded(even_near - odd_near), rounded(even_far + odd_far),
            rounded(even_far - odd_far), g[3]]


def transform_taps(v: tuple[Tensor, ...]) -> list[Tensor]:
    """Gradients of values at the points to those of three taps."""
    matrix = rounded(filter_matrix())
    taps = []
    for power in range(3):
        total = rounded(matrix[0, power] * v[0])
        for point in range(1, 6):
            total = multiply_add(matrix[point, power].item(), v[point], total)
        taps.append(total)
    return taps


def weight_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """(B, O, H, W), (B, I, H, W) -> (O, I, 3, 3) float64 whose values are float32 numbers."""
    height, width = x.shape[2:]
    down, along = math.ceil(height / 4), math.ceil(width / 4)
    padded = F.pad(x.double(), (1, 4 * along - width + 1, 1, 4 * down - height + 1))
    inputs = both_sides(transform_input, padded.unfold(2, 6, 4).unfold(3, 6, 4), 4)
    padded = F.pad(grad.double(), (0, 4 * along - width, 0, 4 * down - height))
    grads = both_sides(transform_gradient, padded.unfold(2, 4, 4).unfold(3, 4, 4), 4)
    inputs, grads = (v.permute(0, 2, 3, 4, 5, 1).flatten(0, 2) for v in (inputs, grads))  # (tiles, 6, 6, channels)
    parts = max(1, min(len(inputs) // 128, 64))  # csrc/conv3x3/conv3x3_gradients.cpp
    total = torch.zeros(())
    for part in range(parts):
        sums = torch.zeros(6, 6, grads.shape[3], inputs.shape[3], dtype=torch.float64)
        for tile in range(len(inputs) * part // parts, len(inputs) * (part + 1) // parts):
            sums = rounded(sums + rounded(grads[tile, :, :, :, None] * inputs[tile, :, :, None]))
        total = rounded(total + both_sides(transform_taps, sums, 0))
    return total.permute(2, 3, 0, 1)


class Rounded(TorchFunctionMode):
    """Inside, float32 convolutions of 3x3 taps are computed by ``convolve``."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.conv2d and args[1].shape[2:] == (3, 3) and args[0].dtype == torch.float32:
            x, weight, bias = (*args, None)[:3]
            result = convolve(x, weight).float()
            return result if bias is None else result + bias[:, None, None]
        return function(*args, **(kwargs or {}))
