"""The multiplications of a whole training, and trainings that take as many as another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..config import DANConfig
from ..fast_model import cost
from ..training.presets import Preset

# Multiply-adds of a training step per LR pixel, by the number of iterations that it unrolls.
StepWork = Callable[[DANConfig, int], float]
# A backward pass takes as many multiply-adds as two forward passes.
LEARNING = 3


def joint_step(config: DANConfig, iterations: int) -> float:
    """A step of DAN's own training, as its papers write the network."""
    # With gradients through all iterations, all forward passes but the last one are computed twice.
    passes = iterations - 1 + LEARNING if config.gradient == "last" else 4 * iterations - 1
    return passes * cost.published(config) / config.iterations


def work(preset: Preset, step: StepWork = joint_step) -> float:
    """Multiply-adds of a whole training."""
    config, settings = preset.config, preset.training
    mean = (settings.short_until * step(config, min(2, config.iterations))
            + (1 - settings.short_until) * step(config, config.iterations))
    return mean * settings.steps * settings.batch * settings.patch**2


def with_work_of(preset: Preset, like: Preset, step: StepWork = joint_step) -> Preset:
    """``preset`` with the number of steps that takes as many multiply-adds as DAN's own training with ``like``.

    Args:
        step: the work of a step with ``preset``, whose number of steps is that of ``like``.
    """
    steps = max(1, round(like.training.steps * work(like) / work(preset, step)))
    return replace(preset, training=replace(preset.training, steps=steps))
