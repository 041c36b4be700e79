"""Named presets: a network with the degradation and the training settings that belong to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..config import DANConfig
from ..degradation.pipeline import Degradation
from ..errors import DanFastError, did_you_mean
from .settings import TrainingSettings


@dataclass(frozen=True)
class Preset:
    """A network, the degradation that it restores, and how it is trained."""

    config: DANConfig
    degradation: Degradation
    training: TrainingSettings


def _preset(scale: int, irregular: bool, training: TrainingSettings, **shape: Any) -> Preset:
    degradation = Degradation.setting2(scale) if irregular else Degradation.setting1(scale)
    code_length = 15 if irregular and scale == 4 else 10
    config = DANConfig(scale=scale, kernel_size=degradation.kernel_size, code_length=code_length, **shape)
    return Preset(config, degradation, training)


def _published(version: str, scale: int, irregular: bool = False) -> Preset:
    training = TrainingSettings(steps=400_000 if version == "v1" else 800_000)
    return _preset(scale, irregular, training, version=version)


_SMALL = {"channels": 32, "groups": 3, "blocks": 4, "estimator_channels": 16, "estimator_blocks": 3,
          "group_residual": "plain", "upsampler": "direct"}


def _small(scale: int, irregular: bool = False) -> Preset:
    """A preset with a third of a million parameters, for CPUs, which train it in an hour or two."""
    training = TrainingSettings(steps=30_000, batch=8, patch=32, learning_rate=1e-3, schedule="cosine", warmup=500,
                                kernel_weight=10.0, short_until=0.5)
    return _preset(scale, irregular, training, **_SMALL)


def _refined(scale: int, irregular: bool = False) -> Preset:
    """The small preset and a Refiner, to be started from weights of the small one (``--init``)."""
    # With 64 channels, a learning rate of 1e-3 throws back what was learned; 2e-4 does not.
    training = TrainingSettings(steps=60_000, batch=8, patch=48, learning_rate=2e-4, schedule="cosine", warmup=500,
                                kernel_weight=10.0)
    return _preset(scale, irregular, training, **_SMALL, refiner_channels=64, refiner_groups=4, refiner_blocks=4)


PRESETS: dict[str, Preset] = {
    **{f"v2-0.3M-x{s}": _small(s) for s in (2, 3, 4)},
    **{f"v2-0.3M-irregular-x{s}": _small(s, irregular=True) for s in (2, 4)},
    **{f"v2-1.7M-x{s}": _refined(s) for s in (2, 3, 4)},
    **{f"v2-1.7M-irregular-x{s}": _refined(s, irregular=True) for s in (2, 4)},
    **{f"{v}-x{s}": _published(v, s) for v in ("v1", "v2") for s in (2, 3, 4)},
    **{f"{v}-irregular-x{s}": _published(v, s, irregular=True) for v in ("v1", "v2") for s in (2, 4)},
}


def get_preset(name: str) -> Preset:
    """Return the preset called ``name``.

    Raises:
        DanFastError: there is none; the message lists the names.
    """
    if name not in PRESETS:
        raise DanFastError(f"no preset {name!r}; there are {', '.join(PRESETS)}{did_you_mean(name, PRESETS)}")
    return PRESETS[name]
