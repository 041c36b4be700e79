"""One iteration that learns, through the operators: the model's own ``step`` and its gradients, up to rounding.

The condition path, the blocks and the end of v2's Estimator are operators whose gradients are kernels too. Between them
the result is cells, as in inference, and an image only for the loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..model import DAN, DANOutput
from .cells import Bicubic, to_cells, to_image
from .collapsed_upsampler import CollapsedUpsampler, DirectUpsampler
from .versions import parts_of

# LR pixels of a batch. To collapse the upsampler and to learn through that takes about as many multiplications as it
# saves on 7,000 (x4, 64 channels).
COLLAPSE_FROM = 20_000


def iteration(model: DAN, lr: Tensor, code: Tensor) -> DANOutput:
    """``model.step(lr, code)``, differentiable in every parameter and in ``code``.

    Args:
        lr: (B, 3, h, w) in [0, 1].
        code: (B, c).
    """
    if type(model) is not DAN:  # what derives from it may compute something else
        return model.step(lr, code)
    parts = parts_of(model.config)
    cells = _reconstruct(model.Restorer, lr, parts.features(model.Restorer, lr, code))
    # The kernel's loss does not reach the Restorer in the published training.
    seen = cells if model.config.gradient == "all" else cells.detach()
    return DANOutput(to_image(cells, model.config.scale), *parts.estimate(model, seen, lr))


def _reconstruct(restorer: Any, lr: Tensor, features: Tensor) -> Tensor:
    """``restorer.reconstruct(lr, features)`` as cells: neither the bicubic image nor the strided convolution of the
    result takes its own slow way."""
    scale, x = restorer.scale, restorer.fusion(features)
    if restorer.adds_bicubic:
        with torch.autocast(lr.device.type, enabled=False):
            base = Bicubic(lr.shape[1], scale, lr)(lr)
        return base + DirectUpsampler(restorer.upscale, scale, learns=True)(x)
    if x[:, 0].numel() < COLLAPSE_FROM:
        return to_cells(restorer.upscale(x), scale)
    with torch.autocast(lr.device.type, enabled=False):
        upscale = CollapsedUpsampler(restorer.upscale, x.shape[1], scale, learns=True)
    return upscale(x)
