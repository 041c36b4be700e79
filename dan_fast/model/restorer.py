"""The Restorer: a sharp image from the low-resolution one and the kernel's code."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import DANConfig
from .blocks import CRB, DPCG, conv


def make_upsampler(config: DANConfig) -> nn.Sequential:
    """(B, C, h, w) -> (B, image_channels, h*s, w*s); no activation anywhere, so it is linear."""
    c, s, image = config.channels, config.scale, config.image_channels
    if config.upsampler == "direct":
        return nn.Sequential(conv(c, image * s * s, 3), nn.PixelShuffle(s))
    steps = (2, 2) if s == 4 else (s,)
    layers: list[nn.Module] = []
    for step in steps:
        layers += [conv(c, c * step * step, 3), nn.PixelShuffle(step)]
    return nn.Sequential(*layers, conv(c, image, 3))


class _Restorer(nn.Module):
    """The end of both versions: fusion, upsampler, and the bicubic image that ``"direct"`` adds."""

    def __init__(self, config: DANConfig) -> None:
        super().__init__()
        self.scale = config.scale
        self.adds_bicubic = config.upsampler == "direct"
        self.fusion = conv(config.channels, config.channels, 3)
        self.upscale = make_upsampler(config)

    def reconstruct(self, lr: Tensor, features: Tensor) -> Tensor:
        """``sr`` from ``features`` (B, C, h, w), the output of the body."""
        sr = self.upscale(self.fusion(features))
        if self.adds_bicubic:
            sr = sr + F.interpolate(lr, scale_factor=self.scale, mode="bicubic", align_corners=False)
        return sr


class RestorerV1(_Restorer):
    """v1, section 3.3: the code, stretched to constant planes, conditions every CRB.

    ``lr`` (B, 3, h, w) in [0, 1] and ``code`` (B, c) -> ``sr`` (B, 3, h*s, w*s).
    """

    def __init__(self, config: DANConfig) -> None:
        super().__init__(config)
        self.head = conv(config.image_channels, config.channels, 3)
        self.body = nn.ModuleList(CRB(config.channels, config.code_length) for _ in range(config.blocks))

    def forward(self, lr: Tensor, code: Tensor) -> Tensor:
        x = self.head(lr)
        z = code[:, :, None, None].expand(-1, -1, *lr.shape[2:])
        for block in self.body:
            x = block(x, z)
        return self.reconstruct(lr, x)


class RestorerV2(_Restorer):
    """v2, section 3.3: the code runs beside the image as a second path of 1x1 maps.

    ``lr`` (B, 3, h, w) in [0, 1] and ``code`` (B, c) -> ``sr`` (B, 3, h*s, w*s).
    """

    def __init__(self, config: DANConfig) -> None:
        super().__init__(config)
        self.head1 = conv(config.image_channels, config.channels, 3)
        self.head2 = conv(config.code_length, config.channels, 1)
        self.body = nn.ModuleList(
            DPCG(config.channels, config.blocks, 1, config.group_residual) for _ in range(config.groups))

    def forward(self, lr: Tensor, code: Tensor) -> Tensor:
        return self.reconstruct(lr, self.features(lr, code))

    def features(self, image: Tensor, code: Tensor) -> Tensor:
        """(B, C, h, w), the output of the body, from the head's input, which for the Restorer is ``lr``."""
        x = self.head1(image)
        z = self.head2(code[:, :, None, None])
        for group in self.body:
            x, z = group(x, z)
        return x


class Refiner(RestorerV2):
    """Improves the Restorer's result once, after the last iteration (ours; the papers have none).

    It is a Restorer, usually a larger one, that also sees the result so far and adds to it instead of to the bicubic
    image. Three of four iterations only serve the estimate, for which a small Restorer is good enough. A new one adds
    nothing.

    ``lr`` (B, 3, h, w) in [0, 1], ``sr`` (B, 3, h*s, w*s) and ``code`` (B, c) -> the new ``sr``.

    Args:
        config: as of ``DANConfig.refiner``.
    """

    def __init__(self, config: DANConfig) -> None:
        super().__init__(config)
        # It sees the s x s pixels of the result that belong to an LR pixel beside that pixel.
        self.head1 = conv(config.image_channels * (1 + config.scale**2), config.channels, 3)
        last: Any = self.upscale[0]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, lr: Tensor, sr: Tensor, code: Tensor) -> Tensor:  # type: ignore[override]
        seen = torch.cat((lr, F.pixel_unshuffle(sr, self.scale)), 1)
        return sr + self.upscale(self.fusion(self.features(seen, code)))
