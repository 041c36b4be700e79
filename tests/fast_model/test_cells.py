"""Cells against what they stand for, in float64: images, strided convolutions, bicubic upscaling."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dan_fast.fast_model.cells import Bicubic, in_cell_order, strided_weight, to_cells, to_image

SCALES = pytest.mark.parametrize("scale", [2, 3, 4])
COLOURS = pytest.mark.parametrize("colours", [1, 3])
SIZES = pytest.mark.parametrize("size", [(1, 1), (2, 7), (9, 6)], ids=str)


def random(*shape):
    return torch.randn(shape, dtype=torch.float64)


@SCALES
@COLOURS
@SIZES
def test_there_and_back(scale, colours, size):
    shuffled = random(2, colours * scale**2, *size)
    image = F.pixel_shuffle(shuffled, scale)
    assert torch.equal(to_image(in_cell_order(shuffled, scale, 1), scale), image)
    assert torch.equal(to_image(to_cells(image, scale), scale), image)
    cells = to_cells(image, scale).contiguous(memory_format=torch.channels_last)
    assert to_image(cells, scale).is_contiguous(memory_format=torch.channels_last)
    # The order: row, column, colour.
    assert torch.equal(cells[:, :, 0, 0].unflatten(1, (scale, scale, colours)).permute(0, 3, 1, 2),
                       image[:, :, :scale, :scale])


@SCALES
@COLOURS
@SIZES
@pytest.mark.parametrize("taps", [1, 3, 9, 13, 17])
def test_strided_convolutions(scale, colours, size, taps):
    image = random(2, colours, size[0] * scale, size[1] * scale)
    weight, bias = random(5, colours, taps, taps), random(5)
    of_cells, padding = strided_weight(weight, scale)
    found = F.conv2d(to_cells(image, scale), of_cells, bias, padding=padding)
    torch.testing.assert_close(found, F.conv2d(image, weight, bias, stride=scale, padding=taps // 2))


@SCALES
@COLOURS
@SIZES
def test_bicubic(scale, colours, size):
    lr = random(2, colours, *size)
    found = to_image(Bicubic(colours, scale, lr)(lr), scale)
    torch.testing.assert_close(found, F.interpolate(lr, scale_factor=scale, mode="bicubic", align_corners=False))
