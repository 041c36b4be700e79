"""The Refiner on cells: prepared for inference, and with gradients. It sees ``lr`` and the Restorer's result."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..model.restorer import Refiner
from ..ops import condition_path, conv3x3_bias, convolution, dpcb_stack
from .cells import in_cell_order
from .collapsed_upsampler import DirectUpsampler
from .dual_path import condition_weights, dpcb_weights, features_with_gradients


class PlannedRefiner:
    """A Refiner prepared for inference.

    Args:
        refiner: its weights must not change as long as this is used.
        rounded: a Refiner too, the same with the weights that meet images in ``dtype``.
        dtype: of images.
    """

    def __init__(self, refiner: Refiner, rounded: Any, dtype: torch.dtype) -> None:
        with torch.no_grad():
            self._condition_weights = condition_weights(refiner)
            self._head_weight = _head_weight(rounded)
        self._head_bias, self._fusion = rounded.head1.bias, rounded.fusion
        self._body_weights = dpcb_weights(rounded)
        self._upscale = DirectUpsampler(rounded.upscale, refiner.scale, dtype=dtype)

    def condition(self, code: Tensor) -> Tensor:
        """The modulation of the blocks, (B, N, C), from ``code`` (B, c)."""
        return condition_path(code, *self._condition_weights)

    def __call__(self, lr: Tensor, cells: Tensor, condition: Tensor) -> Tensor:
        """The refined cells, (B, s*s*colours, h, w).

        Args:
            lr: (B, colours, h, w) in [0, 1].
            cells: of the Restorer's result.
            condition: of the same batch.
        """
        x = convolution(torch.cat((lr.to(cells.dtype), cells), 1), self._head_weight, self._head_bias)
        x = dpcb_stack(x, self._body_weights, condition)
        return self._upscale(conv3x3_bias(x, self._fusion.weight, self._fusion.bias)).add_(cells)


def refine_with_gradients(refiner: Refiner, lr: Tensor, cells: Tensor, code: Tensor) -> Tensor:
    """The refined cells, differentiable in every parameter, in ``cells`` and in ``code`` (B, c)."""
    image = torch.cat((lr, _in_pixel_order(cells, refiner.scale)), 1)
    features = features_with_gradients(refiner, image, code)
    return cells + DirectUpsampler(refiner.upscale, refiner.scale, differentiable=True)(refiner.fusion(features))


def _head_weight(refiner: Refiner) -> Tensor:
    """The weight of ``head1`` for ``lr`` and cells: ``PixelShuffle`` has the result's values in another order."""
    weight = refiner.head1.weight
    colours = weight.shape[1] // (1 + refiner.scale**2)
    lr, result = weight[:, :colours], weight[:, colours:]
    return torch.cat((lr, in_cell_order(result, refiner.scale, 1)), 1).contiguous(memory_format=torch.channels_last)


def _in_pixel_order(cells: Tensor, scale: int) -> Tensor:
    """``cells`` with their values in the order of ``PixelShuffle``."""
    return cells.unflatten(1, (scale**2, -1)).transpose(1, 2).flatten(1, 2)
