"""Upsamplers as one convolution to cells.

Nothing in the published upsampler is nonlinear. Its layers read at most two LR pixels far, so together they are a 5x5
convolution from C to s*s*3 channels, with a seventh of the multiplications at x4. Only where a layer pads with zeros
what the convolution would go on with does the result differ: in the outermost LR pixels, which have filters of their
own (``dan_fast.ops.upsampler``).
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
    """``upscale(features)`` as cells, for ``upsampler="direct"``: its convolution, the channels in another order.

    Args:
        upscale, scale, learns, dtype: as of ``CollapsedUpsampler``.
    """

    def __init__(self, upscale: Any, scale: int, *, learns: bool = False, dtype: torch.dtype | None = None) -> None:
        weight, self._bias = (in_cell_order(values if learns else values.detach(), scale)
                              for values in (upscale[0].weight, upscale[0].bias))
        self._weight = weight.to(dtype or weight.dtype).contiguous(memory_format=torch.channels_last)
        # The operator has no gradient.
        self._convolve = partial(F.conv2d, padding=1) if learns else conv3x3_bias

    def __call__(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, s*s*colours, h, w)."""
        return self._convolve(features, self._weight, self._bias)


class CollapsedUpsampler:
    """``upscale(features)`` as cells, for ``upsampler="published"``, up to rounding.

    Args:
        upscale: ``Restorer.upscale``; it must not change as long as this is used.
        channels: of ``features``.
        scale: 2, 3 or 4.
        learns: whether gradients of the result are to reach the parameters of ``upscale``.
        dtype: of ``features``; ``None``: that of ``upscale``.
    """

    def __init__(self, upscale: Any, channels: int, scale: int, *, learns: bool = False,
                 dtype: torch.dtype | None = None) -> None:
        self._upscale, self._scale, self._learns = upscale, scale, learns
        dtype = dtype or next(upscale.parameters()).dtype
        with torch.inference_mode(False), torch.enable_grad():
            exact = upscale if learns else copy.deepcopy(upscale).double().requires_grad_(False)
            weight, bias = _filters(exact, channels, scale, learns)
        self._weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
        self._bias = bias.to(dtype).contiguous()
        # The operator has no gradient.
        self._convolve = upsampler_ref if learns else upsampler

    def __call__(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, s*s*colours, h, w)."""
        if min(features.shape[2:]) < SMALLEST:
            return to_cells(self._layers(features.dtype)(features), self._scale)
        return self._convolve(features, self._weight, self._bias)

    def _layers(self, dtype: torch.dtype) -> Any:
        """The layers themselves; of a network that learns, autocast sees to the dtype."""
        same = self._learns or next(self._upscale.parameters()).dtype == dtype
        return self._upscale if same else copy.deepcopy(self._upscale).to(dtype)


def _filters(upscale: Any, channels: int, scale: int, learns: bool) -> tuple[Tensor, Tensor]:
    """``weight`` and ``bias`` of ``ops.upsampler``.

    What is linear is its own gradient. Of an image of 11x11 pixels nine are looked at, the first, the middle and the
    last along each axis, which see parts of it that do not overlap: so the gradient of their sum is all their filters
    side by side. There is one image for each value of a cell, so that one backward pass finds the filters of all.
    """
    count = scale**2 * upscale[-1].out_channels
    zeros = next(upscale.parameters()).new_zeros(count, channels, SIDE, SIDE, requires_grad=True)
    own = slice(None, None, SIDE // 2)
    values = to_cells(upscale(zeros), scale)[:, :, own, own].diagonal()  # (3, 3, count)
    weight, = torch.autograd.grad(values.sum(), zeros, create_graph=learns)
    return weight, values if learns else values.detach()
