"""What an experiment is: networks that are trained alike but for one thing, and how each is put to the test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..config import DANConfig
from ..degradation.pipeline import Degradation
from ..model import DAN, DANOutput
from ..training.presets import Preset
from ..training.run import Build
from ..training.settings import TrainingSettings
from ..training.step import LossFunction

# Learns in a quarter of a minute on a CPU what there is to see.
TINY = Preset(
    DANConfig(channels=16, groups=1, blocks=3, estimator_channels=16, estimator_blocks=3, group_residual="plain",
              upsampler="direct"),
    Degradation.setting1(4),
    TrainingSettings(steps=600, batch=8, patch=16, learning_rate=2e-3, schedule="cosine", warmup=50, kernel_weight=10.0,
                     short_until=0.5))

# A trained network, ``lr`` (1, 3, h, w) in [0, 1] and the true kernel (1, k, k) -> what it finds.
Find = Callable[[DAN, Tensor, Tensor], DANOutput]


def blind(model: DAN, lr: Tensor, kernel: Tensor) -> DANOutput:
    """As the network is meant to be used: it is not shown the true kernel."""
    return model(lr)


@dataclass(frozen=True)
class Trial:
    """One use of a trained network: a row of the table.

    Attributes:
        name: the row's.
        find: what is done with the network.
        against: the row that it is compared with, if any.
        irregular: test it on irregular kernels; False: on Gaussian8; None: on what the preset is for.
    """

    name: str
    find: Find = blind
    against: str | None = None
    irregular: bool | None = None


@dataclass(frozen=True)
class Variant:
    """One way to train, once for every seed.

    Attributes:
        name: of the folder of its runs.
        trials: what the trained network is tested by.
        loss: what it learns from; None: what the preset says.
    """

    name: str
    preset: Preset
    trials: tuple[Trial, ...]
    build: Build = DAN
    loss: LossFunction | None = None


@dataclass(frozen=True)
class Experiment:
    """A question, and what is trained to answer it.

    Attributes:
        question: in one sentence.
        note: what to mind when reading the table.
    """

    question: str
    variants: tuple[Variant, ...]
    note: str = ""


def upscaled(lr: Tensor, scale: int) -> Tensor:
    """What an Estimator gets in place of ``sr`` that is to learn nothing from it: ``lr``, bicubic, of the same size."""
    return F.interpolate(lr, scale_factor=scale, mode="bicubic", align_corners=False)
