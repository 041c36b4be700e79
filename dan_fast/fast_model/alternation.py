"""The alternation of Restorer and Estimator: one loop, for whole images and for one image in tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor

from .cost import refiner_passes
from .plan import Estimate, Plan


class Workpiece(Protocol):
    """The object of an alternation: whole images (``Whole``), or the tiles of one."""

    def iterate(self, condition: Tensor, refinement: Tensor | None, *, writes: bool, wants_kernel: bool, last: bool
                ) -> Estimate | None:
        """Run one iteration: the Restorer, and the Estimator if the kernel is wanted.

        Args:
            condition: as of ``plan.condition``.
            refinement: as of ``plan.refinement``; it is used if the result is kept.
            writes: keep the result, refined if the network does that, in the place of an earlier iteration's.
            wants_kernel: run the Estimator; else the result is ``None``.
            last: no iteration follows.
        """


class Whole:
    """Whole images. What all iterations share is computed once.

    Args:
        plan: of the network.
        lr: (N, image channels, h, w) in [0, 1].
        on_passes: called at the end of each iteration with 1, and when its result is refined with the number of
            iterations that take about as long.

    Attributes:
        sr: (N, image channels, h*s, w*s), the result; ``None`` until it is written.
    """

    def __init__(self, plan: Plan, lr: Tensor, on_passes: Callable[[int], object] = lambda count: None) -> None:
        self._plan, self._prepared, self._on_passes = plan, plan.prepare(lr), on_passes
        self.sr: Tensor | None = None

    def iterate(self, condition: Tensor, refinement: Tensor | None, *, writes: bool, wants_kernel: bool, last: bool
                ) -> Estimate | None:
        cells = self._plan.restore(self._prepared, condition)
        estimate = None
        if wants_kernel:
            estimate = self._plan.estimate(self._plan.estimator_features(cells, self._prepared), last=last)
        self._on_passes(1)
        if writes:
            self.sr = self._plan.image(self._plan.refine(self._prepared, cells, refinement))
            if refinement is not None:
                self._on_passes(refiner_passes(self._plan.config))
        return estimate


class Outcome(NamedTuple):
    """The outcome of an alternation.

    Attributes:
        estimate: the last iteration's; ``None`` if its kernel was not wanted.
        code: the one that the last Restorer pass used.
        iterations: how many there were.
    """

    estimate: Estimate | None
    code: Tensor
    iterations: int


def alternate(plan: Plan, workpiece: Workpiece, iterations: int, *, writes: bool = True, wants_kernel: bool = True,
              tolerance: float | None = None) -> Outcome:
    """Run up to ``iterations`` iterations and leave the last one's result in ``workpiece``.

    Args:
        writes: whether the result is wanted; else it is not refined either.
        wants_kernel: run the last iteration's Estimator too.
        tolerance: stop after an iteration that moved no image's kernel by more than this (sum of absolute differences,
            0 to 2); ``None``: never.
    """
    code, condition = plan.first_code, plan.first_condition
    before = Estimate(plan.model.init_kernel, code)
    # A Refiner costs as much as several iterations: a result that may not be the last is not refined.
    always_writes = writes and tolerance is not None and plan.refiner is None
    for count in range(1, iterations + 1):
        last = count == iterations
        writes_now = always_writes or (writes and last)
        estimate = workpiece.iterate(condition, plan.refinement(code) if writes_now else None, writes=writes_now,
                                     wants_kernel=wants_kernel or not last, last=last)
        if last or estimate is None or (tolerance is not None and _moved(plan, before, estimate) <= tolerance):
            break
        before, code = estimate, estimate.code
        condition = plan.condition(code) if estimate.condition is None else estimate.condition
    if writes and not writes_now:
        restore(plan, workpiece, code)
    return Outcome(estimate, code, count)


def restore(plan: Plan, workpiece: Workpiece, code: Tensor) -> None:
    """Run one Restorer pass with a known ``code`` (1 or N, c) and leave its result, refined, in ``workpiece``."""
    workpiece.iterate(plan.condition(code), plan.refinement(code), writes=True, wants_kernel=False, last=True)


def _moved(plan: Plan, before: Estimate, after: Estimate) -> float:
    """The distance that the kernel moved: the sum of absolute differences, the largest of all images."""
    if before.kernel is not None and after.kernel is not None:
        difference = (after.kernel - before.kernel).flatten(1)
    else:  # of the kernels that the codes stand for
        difference = (after.code - before.code) @ plan.model.encoder[0].T
    return difference.abs().sum(1).max().item()
