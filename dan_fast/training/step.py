"""One training step's arithmetic: losses and the moving average of the weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import DAN


class Losses(NamedTuple):
    """``sr``: mean absolute error of the image; ``kernel``: of the kernel (v2) or its code (v1)."""

    sr: Tensor
    kernel: Tensor


def losses(model: DAN, lr: Tensor, hr: Tensor, kernel: Tensor, iterations: int | None = None) -> Losses:
    """The last iteration's losses (v1, eq. 7; v2, section 4.1).

    ``lr`` (B, 3, h, w) and ``hr`` (B, 3, h*s, w*s) in [0, 1], ``kernel`` (B, k, k).
    """
    out = model(lr, iterations)
    if out.kernel is None:
        return Losses(F.l1_loss(out.sr, hr), F.l1_loss(out.code, model.encode(kernel)))
    return Losses(F.l1_loss(out.sr, hr), F.l1_loss(out.kernel, kernel))


@torch.no_grad()
def update_average(average: DAN, model: DAN, decay: float, step: int) -> None:
    """Move ``average``'s weights towards ``model``'s; faster in the first steps, when those change most."""
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
