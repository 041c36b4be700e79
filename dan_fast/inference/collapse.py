"""Upsamplers as one convolution to cells.

Nothing in the published upsampler is nonlinear. Its layers read at most two LR pixels far, so together they are a 5x5
convolution from C to s*s*3 channels, with a seventh of the multiplications at x4. Only where a layer pads with zeros
what the convolution would go on with does the result differ: in the outermost LR pixels. Those of an edge have a 3x5
convolution of their own, and those of a corner a 3x3 one.
"""

from __future__ import annotations

import copy
from enum import Enum
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import conv3x3_bias
from .cells import in_cell_order, to_cells

_REACH = 2
_STRIP = 1 + _REACH  # pixels that the outermost one sees


class DirectUpsampler:
    """``upscale(features)`` as cells, for ``upsampler="direct"``: its convolution, the channels in another order.

    Args:
        upscale, scale, learns: as of ``CollapsedUpsampler``.
    """

    def __init__(self, upscale: Any, scale: int, *, learns: bool = False) -> None:
        weight, bias = (in_cell_order(values if learns else values.detach(), scale)
                        for values in (upscale[0].weight, upscale[0].bias))
        self._weight, self._bias = weight.contiguous(memory_format=torch.channels_last), bias
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
    """

    def __init__(self, upscale: nn.Module, channels: int, scale: int, *, learns: bool = False) -> None:
        self._upscale, self._scale = upscale, scale
        like = next(upscale.parameters())
        with torch.inference_mode(False), torch.enable_grad():
            exact = upscale if learns else copy.deepcopy(upscale).double().requires_grad_(False)
            # By where the pixel lies, down and across.
            self._filters = {(down, across): _filter(exact, channels, scale, down, across, learns, like.dtype)
                             for down in _Place for across in _Place}

    def __call__(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, s*s*colours, h, w)."""
        if min(features.shape[2:]) < _STRIP:
            return to_cells(self._upscale(features), self._scale)
        first, middle, last = _Place
        cells = self._convolved(features, middle, middle)
        for place in (first, last):
            cells[place.outermost(2)] = self._convolved(features[place.strip(2)], place, middle)
            cells[place.outermost(3)] = self._convolved(features[place.strip(3)], middle, place)
        for down in (first, last):
            for across in (first, last):
                corner = self._convolved(features[down.strip(2)][across.strip(3)], down, across)
                cells[down.outermost(2)][across.outermost(3)] = corner
        return cells

    def _convolved(self, features: Tensor, down: _Place, across: _Place) -> Tensor:
        weight, bias = self._filters[down, across]
        return F.conv2d(features, weight, bias, padding=(down.padding, across.padding))


class _Place(Enum):
    """Of an LR pixel in a row or column."""

    FIRST = 0
    MIDDLE = _REACH
    LAST = -1

    @property
    def sees(self) -> int:
        """So many pixels."""
        return 2 * _REACH + 1 if self is _Place.MIDDLE else _STRIP

    @property
    def padding(self) -> int:
        return _REACH if self is _Place.MIDDLE else 0

    def strip(self, dim: int) -> tuple[slice, ...]:
        """What the outermost pixel sees, of dimension ``dim`` of four."""
        return _of(dim, slice(_STRIP) if self is _Place.FIRST else slice(-_STRIP, None))

    def outermost(self, dim: int) -> tuple[slice, ...]:
        return _of(dim, slice(1) if self is _Place.FIRST else slice(-1, None))


def _of(dim: int, part: slice) -> tuple[slice, ...]:
    return tuple(part if n == dim else slice(None) for n in range(4))


def _filter(upscale: nn.Module, channels: int, scale: int, down: _Place, across: _Place, learns: bool,
            dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias, in ``dtype``, of what ``upscale`` makes of the pixels that one pixel sees.

    The weight is the gradient of each of the pixel's values; it has a gradient itself if the network learns.
    """
    zeros = next(upscale.parameters()).new_zeros(1, channels, down.sees, across.sees, requires_grad=True)
    values = to_cells(upscale(zeros), scale)[0, :, down.value, across.value]
    each = torch.eye(len(values), dtype=zeros.dtype, device=zeros.device)
    weight, = torch.autograd.grad(values, zeros, each, is_grads_batched=True, create_graph=learns)
    weight = weight.squeeze(1).to(dtype).contiguous(memory_format=torch.channels_last)
    return weight, (values if learns else values.detach()).to(dtype)
