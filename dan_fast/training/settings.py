"""How a network is trained: everything that changes the result, in one frozen dataclass."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import DanFastError


@dataclass(frozen=True)
class TrainingSettings:
    """Optimiser, schedule and batch. The defaults are v2's published ones (section 4.1).

    Args:
        steps: optimiser steps in all.
        batch: patches a step, of all processes together.
        patch: side of a low-resolution patch, pixels; the HR patch is ``scale`` times as large.
        learning_rate: Adam's largest; betas are (0.9, 0.99).
        schedule: ``"halving"``: halved every ``halve_every`` steps; ``"cosine"``: down to 0.
        halve_every: steps between halvings.
        warmup: steps over which the learning rate rises from 0.
        loss: of the image: ``"l1"``: mean absolute error, as published; ``"l2"``: ten times the mean squared error,
            which is what PSNR measures.
        kernel_weight: weight of the kernel's (v1: the code's) L1 loss beside the image's.
        short_until: share of the steps trained with only 2 iterations, which is faster while
            the Estimator is still poor. 0: never.
        clip: largest norm of all gradients together.
        ema: decay of the averaged weights, which are the ones validated and saved.
    """

    steps: int = 800_000
    batch: int = 64
    patch: int = 64
    learning_rate: float = 4e-4
    schedule: str = "halving"
    halve_every: int = 200_000
    warmup: int = 0
    loss: str = "l1"
    kernel_weight: float = 1.0
    short_until: float = 0.0
    clip: float = 1.0
    ema: float = 0.999

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "patch", "halve_every"):
            if getattr(self, name) < 1:
                raise DanFastError(f"{name}={getattr(self, name)}: expected at least 1")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise DanFastError(f"{name}={getattr(self, name)}: expected a positive number")
        for name, highest in (("warmup", math.inf), ("kernel_weight", math.inf), ("short_until", 1), ("ema", 1)):
            if not 0 <= getattr(self, name) <= highest:
                raise DanFastError(f"{name}={getattr(self, name)}: expected 0 to {highest}")
        if self.schedule not in ("halving", "cosine"):
            raise DanFastError(f"schedule={self.schedule!r}: expected 'halving' or 'cosine'")
        if self.loss not in ("l1", "l2"):
            raise DanFastError(f"loss={self.loss!r}: expected 'l1' or 'l2'")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of step ``step``, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        if self.schedule == "halving":
            return self.learning_rate * 0.5 ** (step // self.halve_every)
        progress = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))

    def iterations_at(self, step: int, iterations: int) -> int:
        """How many iterations step ``step`` unrolls, of the network's ``iterations``."""
        return min(2, iterations) if step < self.short_until * self.steps else iterations
