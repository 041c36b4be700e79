"""The two halves of DAN on their own, for networks that put them together in another way.

While a network is trained they run as the operators that train DAN itself. In tests they are the plain modules, whose
multiplications are counted.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..fast_model.cells import to_cells, to_image
from ..fast_model.learning import restored_cells
from ..fast_model.versions import parts_of
from ..model import DAN


def restore(model: DAN, lr: Tensor, code: Tensor) -> Tensor:
    """``model.Restorer(lr, code)``, the image (B, 3, h*s, w*s), with gradients."""
    if model.training:
        return to_image(restored_cells(model, lr, code), model.config.scale)
    return model.Restorer(lr, code)


def estimate_from_lr(model: DAN, lr: Tensor) -> Tensor:
    """The kernel (B, k, k) that ``model.Estimator`` finds where the bicubically upscaled ``lr`` replaces the restored
    image, with gradients."""
    scale = model.config.scale
    image = F.interpolate(lr, scale_factor=scale, mode="bicubic", align_corners=False)
    if not model.training:
        return model.Estimator(image, lr)
    kernel, _ = parts_of(model.config).estimate(model, to_cells(image, scale), lr)
    assert kernel is not None  # v2 has one
    return kernel
