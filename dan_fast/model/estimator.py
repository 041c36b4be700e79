"""The Estimator: the blur kernel (v2) or its code (v1), from the sharp and the low-resolution image."""

from __future__ import annotations

from torch import Tensor, nn

from ..config import DANConfig
from .blocks import CRB, DPCG, conv


class EstimatorV1(nn.Module):
    """v1, section 3.4. ``sr`` (B, 3, h*s, w*s), ``lr`` (B, 3, h, w) -> ``code`` (B, c)."""

    gives_kernel = False  # but its code

    def __init__(self, config: DANConfig) -> None:
        super().__init__()
        width = config.estimator_channels
        self.head_LR = conv(config.image_channels, width, 1)
        self.head_HR = conv(config.image_channels, width, 9, stride=config.scale)
        self.body = nn.ModuleList(CRB(width, width) for _ in range(config.estimator_blocks))
        self.out = conv(width, config.code_length, 3)

    def forward(self, sr: Tensor, lr: Tensor) -> Tensor:
        x, z = self.head_LR(lr), self.head_HR(sr)
        for block in self.body:
            x = block(x, z)
        return self.out(x).mean((2, 3))


class EstimatorV2(nn.Module):
    """v2, section 3.4. ``sr`` (B, 3, h*s, w*s), ``lr`` (B, 3, h, w) -> ``kernel`` (B, k, k).

    The softmax makes the kernel positive with sum 1.
    """

    gives_kernel = True

    def __init__(self, config: DANConfig) -> None:
        super().__init__()
        width, s = config.estimator_channels, config.scale
        self.kernel_size = config.kernel_size
        # Published weights name each head "….0": a Sequential of one.
        self.head_LR = nn.Sequential(conv(config.image_channels, width, 5))
        self.head_HR = nn.Sequential(conv(config.image_channels, width, 4 * s + 1, stride=s))
        self.body = DPCG(width, config.estimator_blocks, 3, config.group_residual)
        self.tail = nn.Sequential(
            conv(width, 2 * width, 3), nn.AdaptiveAvgPool2d(1),
            conv(2 * width, config.kernel_size**2, 1), nn.Softmax(1),
        )

    def forward(self, sr: Tensor, lr: Tensor) -> Tensor:
        x, _ = self.body(self.head_LR(lr), self.head_HR(sr))
        return self.tail(x).view(-1, self.kernel_size, self.kernel_size)
