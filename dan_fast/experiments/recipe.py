"""Which parts of the small presets' own recipe help? One thing is changed at a time, at the same cost."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor

from ..training.presets import Preset
from ..training.step import LossFunction, losses
from .budget import with_work_of
from .experiment import Experiment, Trial, Variant

RECIPE = "the recipe"
LOSSES = {"l1": "L1", "l2": "squared error"}
# eps of Charbonnier's loss, as published with LapSRN (arXiv 1704.03915).
EPSILON = 1e-3


def charbonnier(error: Tensor) -> Tensor:
    """The mean of sqrt(e^2 + eps^2)."""
    return (error.square() + EPSILON**2).sqrt().mean()


def recipe(preset: Preset) -> Experiment:
    config, settings = preset.config, preset.training
    unchanged = Variant("recipe", preset, (Trial(RECIPE),))

    def changed(name: str, title: str, network: dict[str, Any] | None = None, loss_function: LossFunction | None = None,
                **training: Any) -> Variant:
        variant = replace(preset, config=replace(config, **network or {}), training=replace(settings, **training))
        return Variant(name, with_work_of(variant, preset), (Trial(title, against=RECIPE),), loss=loss_function)

    other = "l1" if settings.loss == "l2" else "l2"
    return Experiment(
        "What of the recipe helps?",
        (unchanged,
         changed(other, f"{LOSSES[other]} instead of {LOSSES[settings.loss]}", loss=other),
         changed("charbonnier", f"Charbonnier's loss instead of {LOSSES[settings.loss]}",
                 loss_function=partial(losses, distance=charbonnier)),
         changed("kernel-1", f"kernel loss x1 instead of x{settings.kernel_weight:g}", kernel_weight=1.0),
         changed("kernel-100", f"kernel loss x100 instead of x{settings.kernel_weight:g}", kernel_weight=100.0),
         changed("no-average", "no moving average", ema=0.0),
         changed("no-warm-up", "no warm-up", warmup=0),
         changed("halving", "rate halved three times instead of cosine", schedule="halving",
                 halve_every=max(1, settings.steps // 4)),
         changed("all-long", "all iterations from the start", short_until=0.0),
         changed("patches", "patches twice as wide, a quarter of them", patch=2 * settings.patch,
                 batch=max(1, settings.batch // 4)),
         changed("two-iterations", "2 iterations, in the test too", {"iterations": 2}),
         changed("all-gradients", "gradients through all iterations", {"gradient": "all"}),
         changed("wide", "twice as wide, a quarter of the blocks",
                 {"channels": 2 * config.channels, "blocks": max(1, round(config.blocks / 4))}),
         changed("doubled", "doubled group residual", {"group_residual": "doubled"}),
         changed("published-upsampler", "published upsampler", {"upsampler": "published"})),
        "Where a change makes a step more or less costly there are fewer or more steps, so that all trainings take the "
        "same number of multiplications.",
        refuses_weights="it asks how to train from the beginning")
