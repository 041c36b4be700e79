"""What does training on irregular kernels cost on isotropic ones, and the other way round? Asked by the papers."""

from __future__ import annotations

from dataclasses import replace

from ..degradation.pipeline import Degradation
from ..training.presets import Preset
from .experiment import Experiment, Trial, Variant


def blur(preset: Preset) -> Experiment:
    settings = [Degradation.setting1(preset.config.scale), Degradation.setting2(preset.config.scale)]
    # Both train the same network, which needs room for the larger kernels.
    size = max(setting.kernel_size for setting in settings)
    isotropic, irregular = (
        replace(preset, config=replace(preset.config, kernel_size=size), degradation=replace(setting, kernel_size=size))
        for setting in settings)
    return Experiment(
        "What does training on irregular kernels cost on isotropic ones, and the other way round?",
        (Variant("isotropic", isotropic, _trials("isotropic")), Variant("irregular", irregular, _trials("irregular"))),
        f"Every kernel is {size}x{size}. Compare rows of the same test; the codes of the two networks are of different "
        "bases.",
        refuses_weights="they know one of the two blurs and would favour it")


def _trials(trained_on: str) -> tuple[Trial, ...]:
    """Each test compares a network with the one that was trained on its kernels."""
    return tuple(Trial(_name(test, trained_on), irregular=test == "irregular",
                       against=None if test == trained_on else _name(test, test))
                 for test in ("isotropic", "irregular"))


def _name(test: str, trained_on: str) -> str:
    return f"tested on {test}, trained on {trained_on}"
