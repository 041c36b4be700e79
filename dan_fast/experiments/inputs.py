"""Does the Estimator need the restored image beside the LR image? Asked by the papers."""

from __future__ import annotations

from torch import Tensor

from ..model import DAN, DANOutput
from ..training.presets import Preset
from .experiment import Experiment, Trial, Variant
from .halves import estimate_from_lr, restore


class LowResolutionOnly(DAN):
    """DAN whose Estimator gets the bicubically upscaled LR image in place of the restored image.

    It has the same layers and parameters as DAN.
    """

    def step(self, lr: Tensor, code: Tensor) -> DANOutput:
        kernel = estimate_from_lr(self, lr)
        return DANOutput(restore(self, lr, code), kernel, self.encode(kernel))


def inputs(preset: Preset) -> Experiment:
    return Experiment(
        "Does the Estimator need the restored image beside the LR image?",
        (Variant("lr-and-sr", preset, (Trial("LR and SR"),)),
         Variant("lr-only", preset, (Trial("LR only", against="LR and SR"),), build=LowResolutionOnly)),
        "Both Estimators have the same layers: \"LR only\" gets the bicubically upscaled image in place of the "
        "restored one.", anew=("Estimator.",))
