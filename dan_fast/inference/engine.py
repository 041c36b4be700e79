"""How images are cut, computed and put together, whatever their size: in one piece, in tiles, from a crop's kernel."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from dan_fast_kernels.without import without
from torch import Tensor

from ..fast_model.alternation import Whole, alternate, restore
from ..fast_model.plan import Estimate, Plan
from .canvas import Canvas
from .crop import most_textured
from .graphs import Graphs
from .memory import budget
from .tiled import Tiled
from .tiling import Tile, room, tile_side, tiles

# Side of the crop that the kernel is estimated from if it is not from the whole image.
CROP = 128
# LR pixels beyond which a pass keeps a GPU busy without a graph: launching one takes 40 ms, 0.09 a kernel.
_LARGEST_GRAPH = 1_500_000
T = TypeVar("T")
SMALLEST_TILE = 16  # LR pixels


class Limits(NamedTuple):
    """Attributes:
        room: LR pixels at once.
        tile: side of a tile, if it was given.
    """

    room: int
    tile: int | None

    def images(self, canvas: Canvas) -> int:
        """How many of the images can be computed at once, each whole; 0: not even one."""
        height, width = canvas.size
        if self.tile:
            return max(1, self.room // (height * width)) if max(height, width) <= self.tile else 0
        return self.room // (height * width)

    def halved(self) -> Limits:
        return Limits(self.room // 4, self.tile and self.tile // 2)


class Options(NamedTuple):
    """As of ``Upscaler``; ``halo`` and ``iterations`` are known."""

    tile: int | None
    halo: int
    iterations: int
    tolerance: float | None
    from_crop: bool


class Engine:
    """A plan on canvases.

    Attributes:
        graphs: CUDA graphs of whole images.
    """

    def __init__(self, plan: Plan, options: Options) -> None:
        self.plan, self.options = plan, options
        self.graphs = Graphs()
        self._fitted: tuple[int, Limits] | None = None

    def upscale(self, canvas: Canvas, known: Tensor | None = None, wants_kernel: bool = True) -> Estimate | None:
        """Writes the result; returns what the last Estimator found, if it is wanted and not ``known``, (k, k)."""
        images = canvas.images()
        if known is not None:
            self._restore(images, [self.plan.encode(known[None])] * len(images))
            return None
        if self._from_crop(canvas):
            # With the codes that the crops' own last Restorer passes used.
            estimate, codes = self._estimate_crops(images, wants_kernel)
            self._restore(images, codes)
            return estimate
        return self._alternate(canvas, wants_kernel)

    def estimate(self, canvas: Canvas) -> Estimate:
        """What ``upscale`` would return, without a result."""
        if self._from_crop(canvas):
            estimate, _ = self._estimate_crops(canvas.images(), True)
        else:
            estimate = self._alternate(canvas.without_result(), True)
        assert estimate is not None
        return estimate

    def limits(self) -> Limits:
        """As memory is now."""
        plan = self.plan
        return Limits(room(plan.config, budget(plan.device), plan.dtype.itemsize), self.options.tile)

    def _from_crop(self, canvas: Canvas) -> bool:
        return self.options.from_crop and max(canvas.size) > CROP

    # --- all iterations -------------------------------------------------------------------------

    def _alternate(self, canvas: Canvas, wants_kernel: bool) -> Estimate | None:
        def run(limits: Limits) -> Estimate | None:
            if batch := limits.images(canvas):
                return _joined([self._alternate_whole(part, wants_kernel) for part in canvas.images(batch)])
            return _joined([self._alternate_tiled(image, limits, wants_kernel) for image in canvas.images()])
        return self._within_memory(run, len(canvas) * math.prod(canvas.size))

    def _alternate_whole(self, images: Canvas, wants_kernel: bool) -> Estimate | None:
        sr, estimate, _ = self._pass(images.read(), wants_kernel)
        images.write(sr)
        return estimate

    def _alternate_tiled(self, image: Canvas, limits: Limits, wants_kernel: bool) -> Estimate | None:
        outcome = alternate(self.plan, self._tiled(image, limits), self.options.iterations, wants_kernel=wants_kernel,
                            tolerance=self.options.tolerance)
        return outcome.estimate

    def _pass(self, lr: Tensor, wants_kernel: bool) -> tuple[Tensor, Estimate | None, Tensor]:
        """``alternate`` on whole images: result, estimate, and the code that the result was made with."""
        options = self.options

        def run(lr: Tensor) -> tuple[Tensor | None, ...]:
            whole = Whole(self.plan, lr)
            outcome = alternate(self.plan, whole, options.iterations, wants_kernel=wants_kernel,
                                tolerance=options.tolerance)
            kernel, code, _ = outcome.estimate or (None, None, None)
            return whole.sr, kernel, code, outcome.code

        captures = (lr.is_cuda and lr[:, 0].numel() <= _LARGEST_GRAPH and options.tolerance is None
                    and not without("inference_graphs"))
        sr, kernel, code, used = self.graphs(run, lr, wants_kernel) if captures else run(lr)
        assert sr is not None and used is not None
        return sr, None if code is None else Estimate(kernel, code), used

    # --- one Restorer pass ----------------------------------------------------------------------

    def _estimate_crops(self, images: Sequence[Canvas], wants_kernel: bool) -> tuple[Estimate | None, list[Tensor]]:
        """Of every image's most textured crop what was found, and the code of the last Restorer pass."""
        passes = [self._pass(image.read(*most_textured(image.array(), CROP)), wants_kernel) for image in images]
        return _joined([estimate for _, estimate, _ in passes]), [code for _, _, code in passes]

    def _restore(self, images: Sequence[Canvas], codes: Sequence[Tensor]) -> None:
        def run(limits: Limits) -> None:
            for image, code in zip(images, codes, strict=True):
                restore(self.plan, self._tiled(image, limits), code)
        self._within_memory(run, sum(len(image) * math.prod(image.size) for image in images))

    # --- memory ---------------------------------------------------------------------------------

    def _tiled(self, image: Canvas, limits: Limits) -> Tiled:
        """An image in tiles, as many at once as there is room for; in one if it fits."""
        halo = self.options.halo
        if limits.images(image):
            return Tiled(self.plan, image, [Tile.whole(*image.size)], 1)
        cut = tiles(*image.size, limits.tile or tile_side(limits.room, halo), halo)
        rows, columns = cut[0].window
        batch = max(1, limits.room // ((rows.stop - rows.start) * (columns.stop - columns.start)))
        if self.plan.device.type == "cpu":  # which needs no more to be busy
            batch = min(batch, torch.get_num_threads())
        return Tiled(self.plan, image, cut, batch)

    def _within_memory(self, run: Callable[[Limits], T], pixels: int) -> T:
        """Calls ``run`` for ``pixels`` LR pixels, with tiles of half the side while a GPU has too little memory.

        To ask a GPU how much memory is free takes as long as a small image: what fitted once is not asked for again.
        """
        known = self._fitted is not None and pixels <= self._fitted[0]
        limits = self._fitted[1] if self._fitted is not None and known else self.limits()
        while True:
            try:
                result = run(limits)
                break
            except torch.OutOfMemoryError:
                self._fitted = None
                limits = limits.halved()
                if (limits.tile and limits.tile < SMALLEST_TILE) or limits.room < SMALLEST_TILE**2:
                    raise
            self.graphs.clear()
            torch.cuda.empty_cache()
            warnings.warn("not enough GPU memory: going on with smaller tiles", stacklevel=2)
        if self.plan.device.type == "cuda" and not known:
            self._fitted = pixels, limits
        return result


def _joined(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """Of several images, one after the other."""
    known = [estimate for estimate in estimates if estimate is not None]
    if not known:
        return None
    kernels = [estimate.kernel for estimate in known if estimate.kernel is not None]
    return Estimate(torch.cat(kernels) if kernels else None, torch.cat([estimate.code for estimate in known]))
