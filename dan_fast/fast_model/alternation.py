"""The alternation itself, over whole images or over the tiles of one: one loop, and one kernel for all tiles."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from .plan import Estimate, Plan


class Images(Protocol):
    """What one alternation works on."""

    def iterate(self, condition: Tensor, *, writes: bool, estimates: bool, goes_on: bool) -> Estimate | None:
        """One iteration with a ``condition`` of ``plan.condition``: the Restorer, and the Estimator if wanted.

        ``writes``: keep the result. That of a later iteration replaces it. ``goes_on``: there may be one.
        """


class Whole:
    """Whole images; what they share in all iterations is kept.

    Args:
        plan: of the network.
        lr: (N, image channels, h, w) in [0, 1].

    Attributes:
        sr: the result.
    """

    def __init__(self, plan: Plan, lr: Tensor) -> None:
        self._plan, self._prepared = plan, plan.prepare(lr)
        self.sr: Tensor | None = None

    def iterate(self, condition: Tensor, *, writes: bool, estimates: bool, goes_on: bool) -> Estimate | None:
        cells = self._plan.restore(self._prepared, condition)
        if writes:
            self.sr = self._plan.image(cells)
        if not estimates:
            return None
        return self._plan.estimate(self._plan.features(cells, self._prepared), goes_on=goes_on)


class Outcome(NamedTuple):
    """``estimate`` of the last iteration, if one was wanted; ``code`` that its Restorer used; how many there were."""

    estimate: Estimate | None
    code: Tensor
    iterations: int


def alternate(plan: Plan, images: Images, iterations: int, *, kernel: bool = True, tolerance: float | None = None
              ) -> Outcome:
    """``model.iterate``'s last result into ``images``.

    Args:
        plan: of the network.
        iterations: at most.
        kernel: whether the last iteration's Estimator is wanted too.
        tolerance: stop after an iteration that moved every image's kernel by at most so much (sum of absolute
            differences, 0 to 2); ``None``: never.
    """
    code, condition = plan.first_code, plan.first_condition
    before = Estimate(plan.model.init_kernel, code)
    for count in range(1, iterations + 1):
        last = count == iterations
        estimate = images.iterate(condition, writes=last or tolerance is not None, estimates=kernel or not last,
                                  goes_on=not last)
        if last or estimate is None or (tolerance is not None and _moved(plan, before, estimate) <= tolerance):
            break
        before, code = estimate, estimate.code
        condition = plan.condition(code) if estimate.condition is None else estimate.condition
    return Outcome(estimate, code, count)


def restore(plan: Plan, images: Images, code: Tensor) -> None:
    """The Restorer's result with a known ``code`` (1 or N, c) into ``images``."""
    images.iterate(plan.condition(code), writes=True, estimates=False, goes_on=False)


def _moved(plan: Plan, before: Estimate, after: Estimate) -> float:
    """By how much the kernel moved at most: the sum of absolute differences."""
    if before.kernel is not None and after.kernel is not None:
        difference = (after.kernel - before.kernel).flatten(1)
    else:  # v1: of the kernels that the codes stand for
        difference = (after.code - before.code) @ plan.model.encoder[0].T
    return difference.abs().sum(1).max().item()
