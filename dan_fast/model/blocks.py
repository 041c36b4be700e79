"""The blocks of both papers: CRB and channel attention (v1), DPCB and DPCG (v2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Conv2d:
    """A convolution with bias that keeps the grid: zero padding of ``size // 2``."""
    return nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2)


def two_convs(in_channels: int, hidden: int, out_channels: int, size: int) -> nn.Sequential:
    """conv, leaky ReLU (0.2), conv."""
    return nn.Sequential(conv(in_channels, hidden, size), nn.LeakyReLU(0.2), conv(hidden, out_channels, size))


class ChannelAttention(nn.Module):
    """v1's CA: ``y * sigmoid(W2 lrelu(W1 mean(y)))``, squeezing the channels by 16."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels // 16, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(channels // 16, channels, 1), nn.Sigmoid(),
        )

    def forward(self, y: Tensor) -> Tensor:
        return y * self.body(self.pool(y))


class CRB(nn.Module):
    """Conditional residual block (v1, fig. 3): the condition ``z`` is concatenated to ``x``.

    ``x`` (B, C, h, w) and ``z`` (B, Cz, h, w) -> the new ``x``; ``z`` stays as it is.
    """

    def __init__(self, channels: int, condition_channels: int) -> None:
        super().__init__()
        both = channels + condition_channels
        self.body = nn.Sequential(*two_convs(both, both, channels, 3), ChannelAttention(channels))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return x + self.body(torch.cat((x, z), 1))


class DPCB(nn.Module):
    """Dual-path conditional block (v2, fig. 4): ``x + f1(x) * f2(z)`` and ``z + f2(z)``.

    Args:
        z_size: size of the z path's convolutions: 1 in the Restorer, where ``z`` is one value per channel,
            (B, C, 1, 1), and f2(z) modulates the features; 3 in the Estimator, where it is an image, (B, C, h, w).
    """

    def __init__(self, channels: int, z_size: int) -> None:
        super().__init__()
        self.body1 = two_convs(channels, channels, channels, 3)
        self.body2 = two_convs(channels, channels, channels, z_size)

    def forward(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        f1, f2 = self.body1(x), self.body2(z)
        return x + f1 * f2, z + f2


class DPCG(nn.Module):
    """A group of DPCBs with a residual around it, for both paths.

    The paper draws ``x + body(x)``. The published implementation adds the *output* to itself instead, so its weights
    only work with ``2 * body(x)``: ``residual="doubled"``.
    """

    def __init__(self, channels: int, blocks: int, z_size: int, residual: str) -> None:
        super().__init__()
        self.body = nn.ModuleList(DPCB(channels, z_size) for _ in range(blocks))
        self.residual = residual

    def forward(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        x_in, z_in = x, z
        for block in self.body:
            x, z = block(x, z)
        if self.residual == "doubled":
            return 2 * x, 2 * z
        return x_in + x, z_in + z
