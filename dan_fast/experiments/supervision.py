"""Is it better to estimate the whole kernel than its reduced code? Asked by the papers."""

from __future__ import annotations

from torch import Tensor, nn

from ..config import DANConfig
from ..model import DAN, DANOutput
from ..model.blocks import conv
from ..model.estimator import EstimatorV2
from ..training.presets import Preset
from .experiment import Experiment, Trial, Variant
from .halves import restore


class CodeEstimator(EstimatorV2):
    """v2's Estimator with a tail that gives the code.

    sr: (B, 3, h*s, w*s)
    lr: (B, 3, h, w)

    Returns the code (B, c).
    """

    def __init__(self, config: DANConfig) -> None:
        super().__init__(config)
        width = config.estimator_channels
        self.tail = nn.Sequential(
            conv(width, 2 * width, 3), nn.AdaptiveAvgPool2d(1), conv(2 * width, config.code_length, 1), nn.Flatten())

    def forward(self, sr: Tensor, lr: Tensor) -> Tensor:
        x, _ = self.body(self.head_LR(lr), self.head_HR(sr))
        return self.tail(x)


class CodeOnly(DAN):
    """v2 that estimates the code and is trained by the error of the code, as v1 is."""

    def __init__(self, config: DANConfig, encoder: Tensor | None = None) -> None:
        super().__init__(config, encoder)
        self.Estimator = CodeEstimator(config)

    def step(self, lr: Tensor, code: Tensor) -> DANOutput:
        sr = restore(self, lr, code)
        return DANOutput(sr, None, self.Estimator(sr if self.config.gradient == "all" else sr.detach(), lr))


def supervision(preset: Preset) -> Experiment:
    return Experiment(
        "Is it better to estimate the whole kernel (softmax) than its reduced code?",
        (Variant("kernel", preset, (Trial("kernel (v2)"),)),
         Variant("code", preset, (Trial("code (v1)", against="kernel (v2)"),), build=CodeOnly)),
        "Kernels have no error where only codes are estimated: compare the error of the code.",
        anew=("Estimator.",))
