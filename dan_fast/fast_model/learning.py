"""One iteration with gradients, made of operators: the model's own ``step``, up to rounding.

The condition path, the blocks and the end of v2's Estimator are operators, and so are their gradients. Between them the
result stays in cells, as in inference; it becomes an image only for the loss.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..model import DAN, DANOutput
from .cells import Bicubic, to_cells, to_image
from .collapsed_upsampler import CollapsedUpsampler, DirectUpsampler
from .refiner import refine_with_gradients
from .versions import parts_of

# LR pixels of a batch from which on the upsampler is collapsed. To do that, and its gradients, takes as many
# multiplications as it saves on about 7,000 pixels (x4, 64 channels).
COLLAPSE_FROM = 20_000


def iteration(model: DAN, lr: Tensor, code: Tensor, *, last: bool = False) -> DANOutput:
    """``model.step(lr, code)``, differentiable in every parameter and in ``code``.

    Args:
        lr: (B, 3, h, w) in [0, 1].
        code: (B, c).
        last: refine the result.
    """
    if not is_plain(model):
        out = model.step(lr, code)
        return out._replace(sr=model.refine(lr, out.sr, code)) if last else out
    cells = restored_cells(model, lr, code)
    # The kernel's loss does not reach the Restorer in the published training.
    seen = cells if model.config.gradient == "all" else cells.detach()
    estimate = parts_of(model.config).estimate(model, seen, lr)
    if last and model.Refiner is not None:
        cells = refine_with_gradients(model.Refiner, lr, cells, code)
    return DANOutput(to_image(cells, model.config.scale), *estimate)


def restored_cells(model: DAN, lr: Tensor, code: Tensor) -> Tensor:
    """``model.Restorer(lr, code)`` as cells."""
    return _reconstruct(model.Restorer, lr, parts_of(model.config).features(model.Restorer, lr, code))


def is_plain(model: DAN) -> bool:
    """Whether operators compute what ``model`` does: a class that derives from DAN may compute something else."""
    return type(model) is DAN


def _reconstruct(restorer: Any, lr: Tensor, features: Tensor) -> Tensor:
    """``restorer.reconstruct(lr, features)`` as cells: the bicubic upscaling is a convolution, and PixelShuffle falls
    away."""
    scale, x = restorer.scale, restorer.fusion(features)
    if restorer.adds_bicubic:
        with torch.autocast(lr.device.type, enabled=False):
            base = Bicubic(lr.shape[1], scale, lr)(lr)
        return base + DirectUpsampler(restorer.upscale, scale, differentiable=True)(x)
    if x[:, 0].numel() < COLLAPSE_FROM:
        return to_cells(restorer.upscale(x), scale)
    with torch.autocast(lr.device.type, enabled=False):
        upscale = CollapsedUpsampler(restorer.upscale, x.shape[1], scale, differentiable=True)
    return upscale(x)
