"""The alternation itself, over a whole image or over its tiles: one loop, and one kernel for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .canvas import Canvas
from .plan import Estimate, Plan, Prepared
from .tiling import Tile


class Piece(Protocol):
    """What the network computes at once: an image, a batch of them, or a batch of an image's tiles."""

    def prepared(self) -> Prepared:
        """What every iteration needs of it."""

    def pool(self, features: Tensor) -> Tensor:
        """Its part of the Estimator's sums, (images, C, 3, 3)."""

    def write(self, sr: Tensor) -> None:
        """Takes the result; that of a later iteration replaces it."""


class Whole:
    """Whole images, whose invariants are kept from one iteration to the next.

    Args:
        plan: of the network.
        lr: (N, image channels, h, w) in [0, 1].
    """

    def __init__(self, plan: Plan, lr: Tensor) -> None:
        self._plan, self._prepared = plan, plan.prepare(lr)
        self.sr: Tensor | None = None

    def prepared(self) -> Prepared:
        return self._prepared

    def pool(self, features: Tensor) -> Tensor:
        return self._plan.pool(features)

    def write(self, sr: Tensor) -> None:
        self.sr = sr


class Tiles:
    """Tiles of one image with windows of one size, read and written on a canvas. Nothing is kept of them."""

    def __init__(self, plan: Plan, canvas: Canvas, tiles: Sequence[Tile]) -> None:
        self._plan, self._canvas, self._tiles = plan, canvas, tiles

    def prepared(self) -> Prepared:
        return self._plan.prepare(torch.cat([self._canvas.read(*tile.window) for tile in self._tiles]))

    def pool(self, features: Tensor) -> Tensor:
        sums = [self._plan.pool(features[n:n + 1], tile.core_in_window()) for n, tile in enumerate(self._tiles)]
        return torch.cat(sums).sum(0, keepdim=True)

    def write(self, sr: Tensor) -> None:
        scale = self._canvas.scale
        for n, tile in enumerate(self._tiles):
            part = sr[(slice(n, n + 1), slice(None), *tile.core_in_window(scale))]
            self._canvas.write(part, *tile.core_in_output(scale))


class Outcome(NamedTuple):
    """``estimate`` of the last iteration, if one was wanted; ``code`` that its Restorer used; how many there were."""

    estimate: Estimate | None
    code: Tensor
    iterations: int


def alternate(plan: Plan, pieces: Iterable[Piece], pixels: int, iterations: int, *, kernel: bool = True,
              tolerance: float | None = None) -> Outcome:
    """``model.iterate``'s last result into ``pieces``. The Estimator averages over all of them before its softmax, so
    that all use one kernel, that of the whole image.

    Args:
        plan: of the network.
        pieces: iterable once for each iteration.
        pixels: of an image, all its pieces together; in LR.
        iterations: at most.
        kernel: whether the last iteration's Estimator is wanted too.
        tolerance: stop after an iteration that moved every image's kernel by at most so much (sum of absolute
            differences, 0 to 2); ``None``: never.
    """
    code, condition = plan.first_code, plan.first_condition
    estimate = Estimate(plan.model.init_kernel, code)
    for count in range(1, iterations + 1):
        last = count == iterations
        estimates = kernel or not last
        sums: Tensor | None = None
        for piece in pieces:
            prepared = piece.prepared()
            sr = plan.restore(prepared, condition)
            if last or tolerance is not None:
                piece.write(sr)
            if estimates:
                part = piece.pool(plan.features(sr, prepared))
                sums = part if sums is None else sums + part
        if sums is None:
            return Outcome(None, code, count)
        before, estimate = estimate, plan.estimate(sums, pixels)
        if last or (tolerance is not None and _moved(plan, before, estimate) <= tolerance):
            break
        code, condition = estimate.code, plan.condition(estimate.code)
    return Outcome(estimate, code, count)


def restore(plan: Plan, pieces: Iterable[Piece], code: Tensor) -> None:
    """The Restorer's result with a known ``code`` (1 or N, c) into ``pieces``."""
    condition = plan.condition(code)
    for piece in pieces:
        piece.write(plan.restore(piece.prepared(), condition))


def _moved(plan: Plan, before: Estimate, after: Estimate) -> float:
    """By how much the kernel moved at most: the sum of absolute differences."""
    if before.kernel is not None and after.kernel is not None:
        difference = (after.kernel - before.kernel).flatten(1)
    else:  # v1: of the kernels that the codes stand for
        difference = (after.code - before.code) @ plan.model.encoder[0].T
    return difference.abs().sum(1).max().item()
