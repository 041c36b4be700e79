"""The two-step baseline that corrects its estimate: IKC (arXiv 1904.03377), made of DAN's own blocks.

IKC has three networks: a predictor estimates the code from the LR image, a restorer that was trained with true kernels
(there SFTMD) makes an image from it, and a corrector sees that image and the code and predicts what to add to the code.
Restorer and corrector then alternate in a loop (its algorithm 1). Here the predictor is v2's Estimator, fed with the
bicubic image, the restorer is v2's Restorer, and the corrector has the Estimator's heads and blocks.

IKC trains its networks one after the other. Here each step trains all three, each by its own loss alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import DANConfig
from ..fast_model import cost
from ..model import DAN, DANOutput
from ..model.blocks import DPCG, conv
from ..training.step import Losses
from .budget import LEARNING
from .halves import estimate_from_lr, restore


class Corrector(nn.Module):
    """Predicts what to add to the code (arXiv 1904.03377, section 3.3).

    sr: (B, 3, h*s, w*s), the image that the Restorer made with ``code``
    code: (B, c)

    Returns the correction (B, c).
    """

    def __init__(self, config: DANConfig) -> None:
        super().__init__()
        width, s = config.estimator_channels, config.scale
        self.head_HR = conv(config.image_channels, width, 4 * s + 1, stride=s)
        self.head_code = conv(config.code_length, width, 1)
        self.body = DPCG(width, config.estimator_blocks, 3, config.group_residual)
        last = conv(2 * width, config.code_length, 1)
        self.tail = nn.Sequential(conv(width, 2 * width, 3), nn.AdaptiveAvgPool2d(1), last, nn.Flatten())
        # A random correction of a random correction grows without bounds; a new corrector corrects nothing (ours).
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)

    def forward(self, sr: Tensor, code: Tensor) -> Tensor:
        x = self.head_HR(sr)
        # IKC stretches the code to the size of the features too.
        z = self.head_code(code[:, :, None, None]).expand_as(x)
        return self.tail(self.body(x, z)[0])


class Correcting(DAN):
    """DAN with a Corrector; its Estimator is the predictor."""

    def __init__(self, config: DANConfig, encoder: Tensor | None = None) -> None:
        super().__init__(config, encoder)
        self.Corrector = Corrector(config)

    def predict(self, lr: Tensor) -> Tensor:
        """The first estimate of the kernel, (B, k, k), from ``lr`` (B, 3, h, w) alone."""
        return estimate_from_lr(self, lr)

    def correct(self, lr: Tensor, code: Tensor) -> Tensor:
        """The next code (B, c), from ``code`` (B, c). No gradient reaches the Restorer."""
        with torch.no_grad():
            sr = restore(self, lr, code)
        return code + self.Corrector(sr, code)


def corrected(model: DAN, lr: Tensor, kernel: Tensor) -> DANOutput:
    """Estimate, then restore as often as DAN iterates, with a correction between every two."""
    assert isinstance(model, Correcting)
    code = model.encode(model.predict(lr))
    for _ in range(model.config.iterations - 1):
        code = model.correct(lr, code)
    return DANOutput(restore(model, lr, code), None, code)


def losses_corrected(model: DAN, lr: Tensor, hr: Tensor, kernel: Tensor, iterations: int) -> Losses:
    """The losses of a Restorer that gets the true kernel, of a predictor, and of the last of several corrections.

    The corrector is trained with the codes that predictor and Restorer give it, and by the error of its code.
    """
    assert isinstance(model, Correcting)
    true = model.encode(kernel)
    sr, estimate = restore(model, lr, true), model.predict(lr)
    code = model.encode(estimate).detach()
    with torch.no_grad():
        for _ in range(iterations - 2):
            code = model.correct(lr, code)
    code = model.correct(lr, code)
    return Losses(F.l1_loss(sr, hr), F.l1_loss(estimate, kernel) + F.l1_loss(code, true))


def correcting_step(config: DANConfig, iterations: int) -> float:
    """Multiply-adds of a step with ``losses_corrected`` per LR pixel."""
    restorer, estimator = sum(cost.restorer(config).values()), cost.estimator(config)
    corrections = max(1, iterations - 1)
    predictor = sum(estimator.values())
    corrector = predictor - estimator["head of lr"]
    return LEARNING * (restorer + predictor) + corrections * restorer + (corrections - 1 + LEARNING) * corrector
