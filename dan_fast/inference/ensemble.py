"""Self-ensemble: the mean over the eight ways to turn and mirror an image (Timofte et al., arXiv 1511.02228)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from .canvas import Canvas

# Upscales a canvas with a known kernel (k, k) or none; returns the estimated kernels (N, k, k) or none.
Upscale = Callable[[Canvas, Tensor | None], Tensor | None]


# Quarter turns, then whether it is mirrored.
DIRECTIONS = tuple(product(range(4), (False, True)))


def ensemble(upscale: Upscale, canvas: Canvas, known: Tensor | None) -> Tensor | None:
    """``upscale(canvas, known)``, the mean of it for the image and its kernel turned and mirrored."""
    images = canvas.read()
    total: Tensor | None = None
    kernels: list[Tensor] = []
    for turns, mirror in DIRECTIONS:
        turned = Canvas(_turned(images, turns, mirror), canvas.scale, canvas.image_channels, canvas.device,
                        progress=canvas.progress, written=canvas.written).with_result()
        found = upscale(turned, None if known is None else _turned(known, turns, mirror))
        assert turned.result is not None
        result = _turned_back(turned.result, turns, mirror)
        total = result if total is None else total.add_(result)
        if found is not None:
            kernels.append(_turned_back(found, turns, mirror))
    assert total is not None
    canvas.write(total.div_(8))
    return torch.stack(kernels).mean(0) if kernels else None


def _turned(images: Tensor, turns: int, mirror: bool) -> Tensor:
    turned = torch.rot90(images, turns, (-2, -1))
    return turned.flip(-1) if mirror else turned


def _turned_back(images: Tensor, turns: int, mirror: bool) -> Tensor:
    return torch.rot90(images.flip(-1) if mirror else images, -turns, (-2, -1))
