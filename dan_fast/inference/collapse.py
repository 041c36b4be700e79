"""Upsamplers as one convolution to cells.

Nothing in the published upsampler is nonlinear. Its layers read at most two LR pixels far, so together they are a 5x5
convolution from C to s*s*3 channels, with a seventh of the multiplications at x4. Only where a layer pads with zeros
what the convolution would go on with does the result differ: in the outermost LR pixels, which are computed by the
layers.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..ops import conv3x3_bias
from .cells import in_cell_order, to_cells

_REACH = 2
_STRIP = 1 + _REACH  # pixels that the outermost one depends on


class DirectUpsampler:
    """``upscale(features)`` as cells, for ``upsampler="direct"``: its convolution, the channels in another order."""

    def __init__(self, upscale: Any, scale: int) -> None:
        conv = upscale[0]
        weight = in_cell_order(conv.weight.detach(), scale)
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = in_cell_order(conv.bias.detach(), scale)

    def __call__(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, s*s*colours, h, w)."""
        return conv3x3_bias(features, self.weight, self.bias)


class CollapsedUpsampler:
    """``upscale(features)`` as cells, for ``upsampler="published"``, up to rounding.

    Args:
        upscale: ``Restorer.upscale``; it must not change as long as this is used.
        channels: of ``features``.
        scale: 2, 3 or 4.
    """

    def __init__(self, upscale: nn.Module, channels: int, scale: int) -> None:
        self.upscale, self.scale = upscale, scale
        self.weight, self.bias = _composed(upscale, channels, scale)

    def __call__(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, s*s*colours, h, w)."""
        height, width = features.shape[2:]
        if min(height, width) <= 2 * _STRIP:
            return self._by_layers(features)
        cells = F.conv2d(features, self.weight, self.bias, padding=_REACH)
        cells[:, :, :1] = self._by_layers(features[:, :, :_STRIP])[:, :, :1]
        cells[:, :, -1:] = self._by_layers(features[:, :, -_STRIP:])[:, :, -1:]
        cells[..., :1] = self._by_layers(features[..., :_STRIP])[..., :1]
        cells[..., -1:] = self._by_layers(features[..., -_STRIP:])[..., -1:]
        return cells

    def _by_layers(self, features: Tensor) -> Tensor:
        return to_cells(self.upscale(features), self.scale)


@torch.no_grad()
def _composed(upscale: nn.Module, channels: int, scale: int) -> tuple[Tensor, Tensor]:
    """Weights and bias of the one convolution, from what the layers make of a single 1 in each channel."""
    exact = copy.deepcopy(upscale).double()
    parameter = next(upscale.parameters())
    centre = _REACH + 1  # so that no response reaches the border
    side = 2 * centre + 1
    ones = torch.zeros(channels, channels, side, side, dtype=torch.float64, device=parameter.device)
    ones[range(channels), range(channels), centre, centre] = 1
    nothing = exact(ones.new_zeros(1, channels, side, side))
    # (in, out, 7, 7): an LR pixel sees the 1 in the direction opposite to the one that the 1 sees it in.
    responses = to_cells(exact(ones) - nothing, scale)[:, :, 1:-1, 1:-1].flip(2, 3)
    bias = to_cells(nothing, scale)[0, :, centre, centre]
    weight = responses.transpose(0, 1).to(parameter.dtype).contiguous(memory_format=torch.channels_last)
    return weight, bias.to(parameter.dtype)
