"""How many iterations does a trained network need at test time? Asked by the papers."""

from __future__ import annotations

from torch import Tensor

from ..model import DAN, DANOutput
from ..training.presets import Preset
from .experiment import Experiment, Predict, Trial, Variant

MOST = 8  # iterations


def iterations(preset: Preset) -> Experiment:
    trained = preset.config.iterations
    counts = range(1, max(MOST, trained) + 1)
    trials = (Trial(_name(count), _iterating(count), _name(trained) if count != trained else None) for count in counts)
    return Experiment(
        "How many iterations does a trained network need at test time?",
        (Variant("dan", preset, tuple(trials)),),
        f"It is trained with {trained}.")


def _name(count: int) -> str:
    return f"{count} iteration{'s' * (count > 1)}"


def _iterating(count: int) -> Predict:
    def predict(model: DAN, lr: Tensor, kernel: Tensor) -> DANOutput:
        return model(lr, count)
    return predict
