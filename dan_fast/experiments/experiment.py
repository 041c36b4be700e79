"""An experiment: networks trained in the same way except for one thing, and the tests of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..config import DANConfig
from ..degradation.pipeline import Degradation
from ..model import DAN, DANOutput
from ..training.presets import Preset
from ..training.run import Build
from ..training.settings import TrainingSettings
from ..training.step import LossFunction

# A CPU trains it in a quarter of a minute.
TINY = Preset(
    DANConfig(channels=16, groups=1, blocks=3, estimator_channels=16, estimator_blocks=3, group_residual="plain",
              upsampler="direct"),
    Degradation.setting1(4),
    TrainingSettings(steps=600, batch=8, patch=16, learning_rate=2e-3, schedule="cosine", warmup=50, kernel_weight=10.0,
                     short_until=0.5))

# Called with a trained network, ``lr`` (1, 3, h, w) in [0, 1] and the true kernel (1, k, k).
Predict = Callable[[DAN, Tensor, Tensor], DANOutput]


def blind(model: DAN, lr: Tensor, kernel: Tensor) -> DANOutput:
    """Use the network as it is meant to be used, without the true kernel."""
    return model(lr)


@dataclass(frozen=True)
class Trial:
    """One use of a trained network: a row of the table.

    Attributes:
        name: title of the row.
        predict: how the network is used.
        against: name of the trial that it is compared with, if any.
        irregular: test on irregular kernels; False: on Gaussian8; None: on the kind that the preset is for.
    """

    name: str
    predict: Predict = blind
    against: str | None = None
    irregular: bool | None = None


@dataclass(frozen=True)
class Variant:
    """One way to train, repeated with every seed.

    Attributes:
        name: for the folders of its runs.
        trials: the tests of the trained network.
        build: makes the network.
        loss: the loss function; None: the preset's.
    """

    name: str
    preset: Preset
    trials: tuple[Trial, ...]
    build: Build = DAN
    loss: LossFunction | None = None


@dataclass(frozen=True)
class Experiment:
    """A question, and the networks that are trained to answer it.

    Attributes:
        question: in one sentence.
        note: advice for reading the table.
        anew: beginnings of the names of the modules that the question is about: they start anew in every network, also
            where the trainings start from weights, which know one of the answers only.
        refuses_weights: why its trainings cannot start from weights, the end of a sentence; empty: they can.
    """

    question: str
    variants: tuple[Variant, ...]
    note: str = ""
    anew: tuple[str, ...] = ()
    refuses_weights: str = ""
