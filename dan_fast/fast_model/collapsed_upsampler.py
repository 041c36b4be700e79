"""Upsamplers as one convolution to cells.

The published upsampler is linear, and its layers together reach two LR pixels far. So it is one 5x5 convolution from C
to s*s*3 channels, with a seventh of the multiplications at x4. At the border its layers pad their own inputs with
zeros, which the one convolution cannot: the outermost LR pixels have filters of their own (``dan_fast.ops.upsampler``).
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import conv3x3_bias, upsampler
from ..ops.upsampler import SIDE, SMALLEST, upsampler_ref
from .cells import in_cell_order, to_cells


class DirectUpsampler:
    """``upscale(x)`` as cells, for ``upsampler="direct"``: its convolution, with the channels in another order.

    Args:
        upscale, scale, differentiable, dtype: as of ``CollapsedUpsampler``.
    """

    def __init__(self, upscale: Any, scale: int, *, differentiable: bool = False, dtype: torch.dtype | None = None
                 ) -> None:
        weight, self._bias = (in_cell_order(values if differentiable else values.detach(), scale)
                              for values in (upscale[0].weight, upscale[0].bias))
        self._weight = weight.to(dtype or weight.dtype).contiguous(memory_format=torch.channels_last)
        # The operator has no gradients.
        self._convolve = partial(F.conv2d, padding=1) if differentiable else conv3x3_bias

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, s*s*colours, h, w)."""
        return self._convolve(x, self._weight, self._bias)


class CollapsedUpsampler:
    """``upscale(x)`` as cells, for ``upsampler="published"``, up to rounding.

    Args:
        upscale: ``Restorer.upscale``; it must not change as long as this is used.
        channels: C, of ``x``.
        scale: 2, 3 or 4.
        differentiable: whether gradients reach the parameters of ``upscale``.
        dtype: of ``x``; ``None``: that of ``upscale``.
    """

    def __init__(self, upscale: Any, channels: int, scale: int, *, differentiable: bool = False,
                 dtype: torch.dtype | None = None) -> None:
        self._upscale, self._scale, self._differentiable = upscale, scale, differentiable
        dtype = dtype or next(upscale.parameters()).dtype
        with torch.inference_mode(False), torch.enable_grad():
            exact = upscale if differentiable else copy.deepcopy(upscale).double().requires_grad_(False)
            weight, bias = _filters(exact, channels, scale, differentiable)
        self._weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self._bias = bias.to(dtype).contiguous()
        # The operator has no gradients.
        self._convolve = upsampler_ref if differentiable else upsampler

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, s*s*colours, h, w)."""
        if min(x.shape[2:]) < SMALLEST:
            return to_cells(self._layers(x.dtype)(x), self._scale)
        return self._convolve(x, self._weight, self._bias)

    def _layers(self, dtype: torch.dtype) -> Any:
        """The layers themselves in ``dtype``; where gradients are wanted, autocast converts instead."""
        same = self._differentiable or next(self._upscale.parameters()).dtype == dtype
        return self._upscale if same else copy.deepcopy(self._upscale).to(dtype)


def _filters(upscale: Any, channels: int, scale: int, differentiable: bool) -> tuple[Tensor, Tensor]:
    """``weight`` and ``bias`` of ``ops.upsampler``.

    The gradient of a linear map is the map itself. In an image of 11x11 pixels the first, the middle and the last
    pixel along each axis see parts that do not overlap, so the gradient of the sum of these nine is their filters, side
    by side. With one image per value of a cell, a single backward pass finds the filters of all.
    """
    count = scale**2 * upscale[-1].out_channels
    zeros = next(upscale.parameters()).new_zeros(count, channels, SIDE, SIDE, requires_grad=True)
    nine = slice(None, None, SIDE // 2)
    values = to_cells(upscale(zeros), scale)[:, :, nine, nine].diagonal()  # (3, 3, count)
    weight, = torch.autograd.grad(values.sum(), zeros, create_graph=differentiable)
    return weight, values if differentiable else values.detach()
