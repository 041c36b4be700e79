"""Named networks with the degradation and the training that belong to them."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import DANConfig
from ..degradation.pipeline import Degradation
from ..errors import DanFastError
from .settings import TrainingSettings


@dataclass(frozen=True)
class Preset:
    """A network, the blur that it is for, and how it is trained."""

    config: DANConfig
    degradation: Degradation
    training: TrainingSettings


def _published(version: str, scale: int, irregular: bool = False) -> Preset:
    degradation = Degradation.setting2(scale) if irregular else Degradation.setting1(scale)
    code_length = 15 if irregular and scale == 4 else 10
    config = DANConfig(version=version, scale=scale, kernel_size=degradation.kernel_size, code_length=code_length)
    return Preset(config, degradation, TrainingSettings(steps=400_000 if version == "v1" else 800_000))


def _small(scale: int) -> Preset:
    """A third of a million parameters: fit for CPUs, and trained on one in an hour or two."""
    config = DANConfig(scale=scale, channels=32, groups=3, blocks=4, estimator_channels=16, estimator_blocks=3,
                       group_residual="plain", upsampler="direct")
    training = TrainingSettings(steps=30_000, batch=8, patch=32, learning_rate=1e-3, schedule="cosine", warmup=500,
                                kernel_weight=10.0, short_until=0.5)
    return Preset(config, Degradation.setting1(scale), training)


PRESETS: dict[str, Preset] = {
    **{f"v2-0.3M-x{s}": _small(s) for s in (2, 3, 4)},
    **{f"{v}-x{s}": _published(v, s) for v in ("v1", "v2") for s in (2, 3, 4)},
    **{f"{v}-irregular-x{s}": _published(v, s, irregular=True) for v in ("v1", "v2") for s in (2, 4)},
}


def get_preset(name: str) -> Preset:
    """The preset called ``name``; ``DanFastError`` lists the names if there is none."""
    if name not in PRESETS:
        raise DanFastError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
