"""The settings of a training that change its result, in one frozen dataclass."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from ..errors import DanFastError

LEARNS = ("all", "refiner")


@dataclass(frozen=True)
class TrainingSettings:
    """Optimiser, schedule and batch. The defaults are v2's published ones (section 4.1).

    Raises:
        DanFastError: a value is impossible; the message names its field.
    """

    steps: int = field(default=800_000, metadata={
        "help": "optimiser steps in all; with minutes they do not end the run, and are only what warmup and "
                "halve_every are measured against: 24,000 of 800,000 steps are 3 % of the time"})
    minutes: float = field(default=0.0, metadata={
        "help": "train by the clock: the share of this time that is used up takes the place of the share of the steps, "
                "and the command ends, with all saved, before the time is over; the learning rate at a step then "
                "depends on the machine, and no run can be repeated exactly; 0: train by steps"})
    batch: int = field(default=64, metadata={"help": "patches per step, of all processes together"})
    patch: int = field(default=64, metadata={
        "help": "side of a low-resolution patch, pixels; the HR patch is scale times as large"})
    learning_rate: float = field(default=4e-4, metadata={"help": "Adam's largest; its betas are (0.9, 0.99)"})
    schedule: str = field(default="halving", metadata={
        "help": "halving: halve the learning rate every halve_every steps; cosine: lower it to 0; constant: leave it "
                "as it is, for a part of a run that is not its last"})
    halve_every: int = field(default=200_000, metadata={"help": "steps between halvings"})
    warmup: int = field(default=0, metadata={
        "help": "steps over which the learning rate rises from 0; with minutes, dan-fast train makes it 3 % of the "
                "steps where a preset has none"})
    loss: str = field(default="l1", metadata={
        "help": "loss of the image; l1: mean absolute error, as published; l2: ten times the mean squared error, which "
                "is what PSNR measures"})
    kernel_weight: float = field(default=1.0, metadata={
        "help": "weight of the kernel's (v1: the code's) L1 loss beside the image's"})
    short_until: float = field(default=0.0, metadata={
        "help": "share of the steps that are trained with only 2 iterations, which is faster while the Estimator is "
                "still poor; 0: none"})
    learns: str = field(default="all", metadata={
        "help": "all: the whole network learns; refiner: only the Refiner does, from the results and estimates of the "
                "other modules, which stay as --init gives them; a step then takes 0.8 of the time on a CPU"})
    clip: float = field(default=1.0, metadata={"help": "largest norm of all gradients together"})
    ema: float = field(default=0.999, metadata={
        "help": "decay of the averaged weights, which are validated and saved"})

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
        if not 0 <= self.minutes < math.inf:
            raise DanFastError(f"minutes={self.minutes}: expected a positive number, or 0 to go by steps")
        if self.schedule not in ("halving", "cosine", "constant"):
            raise DanFastError(f"schedule={self.schedule!r}: expected 'halving', 'cosine' or 'constant'")
        if self.loss not in ("l1", "l2"):
            raise DanFastError(f"loss={self.loss!r}: expected 'l1' or 'l2'")
        if self.learns not in LEARNS:
            raise DanFastError(f"learns={self.learns!r}: expected {' or '.join(map(repr, LEARNS))}")

    def learning_rate_at(self, step: float) -> float:
        """The learning rate at ``step``, from 0; by the clock ``step`` is ``steps`` times the share of time used up."""
        if step < self.warmup:
            return self.learning_rate * min(step + 1, self.warmup) / self.warmup
        if self.schedule == "halving":
            return self.learning_rate * 0.5 ** (step // self.halve_every)
        if self.schedule == "constant":
            return self.learning_rate
        progress = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))

    def iterations_at(self, step: float, iterations: int) -> int:
        """The number of iterations that ``step`` unrolls, at most the network's ``iterations``."""
        return min(2, iterations) if step < self.short_until * self.steps else iterations

    def begins_at(self, step: float) -> bool:
        """Whether ``step`` lies in the beginning of a run, which ``warmup`` and ``short_until`` describe."""
        return step < max(self.warmup, self.short_until * self.steps, 1)

    def without_beginning(self) -> TrainingSettings:
        """These settings for a later part of the run, without ``warmup`` and ``short_until``."""
        return replace(self, warmup=0, short_until=0.0)
