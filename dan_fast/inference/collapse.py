"""The published upsampler as one convolution: nothing in it is nonlinear.

Its layers read at most two LR pixels far, so together they are a 5x5 convolution from C to 3*s*s channels and one
PixelShuffle, with a seventh of the multiplications at x4. Only where a layer pads with zeros what the convolution
would go on with does the result differ: in the outermost LR pixels, which are computed by the layers.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_REACH = 2
_STRIP = 1 + _REACH  # pixels that the outermost one depends on


class CollapsedUpsampler:
    """``upscale(features)`` for the published upsampler, up to rounding.

    Args:
        upscale: ``RestorerV2.upscale`` of ``upsampler="published"``; it must not change as long as this is used.
        channels: of ``features``.
        scale: 2, 3 or 4.
    """

    def __init__(self, upscale: nn.Module, channels: int, scale: int) -> None:
        self.upscale, self.scale = upscale, scale
        self.weight, self.bias = _composed(upscale, channels, scale)

    def __call__(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 3, h*s, w*s)."""
        height, width = features.shape[2:]
        if min(height, width) <= 2 * _STRIP:
            return self.upscale(features)
        s = self.scale
        sr = F.pixel_shuffle(F.conv2d(features, self.weight, self.bias, padding=_REACH), s)
        sr[:, :, :s] = self.upscale(features[:, :, :_STRIP])[:, :, :s]
        sr[:, :, -s:] = self.upscale(features[:, :, -_STRIP:])[:, :, -s:]
        sr[:, :, :, :s] = self.upscale(features[:, :, :, :_STRIP])[:, :, :, :s]
        sr[:, :, :, -s:] = self.upscale(features[:, :, :, -_STRIP:])[:, :, :, -s:]
        return sr


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
    # (in, out * s * s, 7, 7): an LR pixel sees the 1 in the direction opposite to the one that the 1 sees it in.
    responses = F.pixel_unshuffle(exact(ones) - nothing, scale)[:, :, 1:-1, 1:-1].flip(2, 3)
    bias = F.pixel_unshuffle(nothing, scale)[0, :, centre, centre]
    weight = responses.transpose(0, 1).to(parameter.dtype).contiguous(memory_format=torch.channels_last)
    return weight, bias.to(parameter.dtype)
