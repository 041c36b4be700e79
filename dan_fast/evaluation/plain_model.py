"""Upscaling with the plain model, as a baseline for timings: it does the same work as ``Upscaler`` without a kernel."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..model import DAN


def last_sr(model: DAN, lr: Tensor) -> Tensor:
    """The last iteration's ``sr`` for ``lr`` (B, 3, h, w), without the last Estimator, which it does not need."""
    code = model.init_ker_map.to(lr.dtype).expand(len(lr), -1)
    for _ in range(model.config.iterations - 1):
        code = model.step(lr, code).code
    return model.refine(lr, model.Restorer(lr, code), code)


@torch.inference_mode()
def upscale_plainly(model: DAN, images: np.ndarray) -> np.ndarray:
    """Upscale with ``model``, on its device, in its dtype and channels_last.

    Args:
        images: (B, h, w, 3) uint8.

    Returns:
        (B, h*s, w*s, 3) uint8.
    """
    like = model.encoder
    lr = torch.from_numpy(images).to(like.device).permute(0, 3, 1, 2).to(like.dtype) / 255
    sr = last_sr(model, lr.contiguous(memory_format=torch.channels_last))
    return sr.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
