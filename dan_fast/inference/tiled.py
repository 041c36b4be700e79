"""One iteration over the tiles of an image, which share one kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..fast_model.cost import refiner_passes
from ..fast_model.plan import Estimate, Plan
from .canvas import Canvas
from .tiling import Tile


class Tiled:
    """One image in tiles, read and written on a canvas. Nothing is stored per tile between iterations.

    The Estimator's sums are added up over all tiles, so that they have one kernel: the image's.

    Args:
        plan: of the network.
        canvas: of one image.
        tiles: with windows of one size; their cores partition the image.
        batch: how many tiles are computed at once.
    """

    def __init__(self, plan: Plan, canvas: Canvas, tiles: Sequence[Tile], batch: int) -> None:
        self._plan, self._canvas, self._passes = plan, canvas, refiner_passes(plan.config)
        self._batches = [tiles[n:n + batch] for n in range(0, len(tiles), batch)]

    def iterate(self, condition: Tensor, refinement: Tensor | None, *, writes: bool, wants_kernel: bool, last: bool
                ) -> Estimate | None:
        sums: list[Tensor] = []
        for tiles in self._batches:
            prepared = self._plan.prepare(torch.cat([self._canvas.read(*tile.window) for tile in tiles]))
            cells = self._plan.restore(prepared, condition)
            if writes:
                self._write(self._plan.image(self._plan.refine(prepared, cells, refinement)), tiles)
            if wants_kernel:
                estimator_features = self._plan.estimator_features(cells, prepared)
                sums += [self._plan.pool(estimator_features[n:n + 1], tile.core_in_window())
                         for n, tile in enumerate(tiles)]
            refined = writes and refinement is not None
            self._canvas.progress.add((1 + refined * self._passes) * sum(tile.pixels for tile in tiles))
        if not wants_kernel:
            return None
        height, width = self._canvas.size
        return self._plan.estimate_pooled(torch.cat(sums).sum(0, keepdim=True), height * width)

    def _write(self, sr: Tensor, tiles: Sequence[Tile]) -> None:
        """Write the cores of ``tiles``, whose windows' results are ``sr``."""
        scale = self._canvas.scale
        for n, tile in enumerate(tiles):
            core = sr[(slice(n, n + 1), slice(None), *tile.core_in_window(scale))]
            self._canvas.write(core, *tile.core_in_output(scale))
