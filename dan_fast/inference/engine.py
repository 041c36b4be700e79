"""Computes images of any size: whole, in tiles, or with the kernel of a crop, within the memory there is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from dan_fast_kernels.without import without
from torch import Tensor

from ..blur_kernels.pca import PCAEncoder
from ..blur_kernels.width import scaled
from ..fast_model.alternation import Whole, alternate, restore
from ..fast_model.cost import refiner_passes
from ..fast_model.plan import Estimate, Plan
from .canvas import Canvas
from .crop import most_textured
from .graphs import Graphs
from .memory import budget
from .progress import Progress
from .tiled import Tiled
from .tiling import Tile, room, tile_side, tiles

CROP = 128  # side of the crop that a kernel is estimated from, in LR pixels
SMALLEST_TILE = 16  # side in LR pixels
# LR pixels from which on a GPU is busy without a CUDA graph: launching a pass takes 40 ms, 0.09 per GPU kernel.
_LARGEST_GRAPH = 1_500_000

T = TypeVar("T")


class Limits(NamedTuple):
    """Limits of what is computed at once.

    Attributes:
        room: LR pixels.
        tile: the side of a tile; ``None``: as large as there is room.
    """

    room: int
    tile: int | None

    def whole_images(self, canvas: Canvas) -> int:
        """The number of the canvas's images that can be computed at once, each whole; 0: not even one."""
        height, width = canvas.size
        if self.tile:
            return max(1, self.room // (height * width)) if max(height, width) <= self.tile else 0
        return self.room // (height * width)

    def halved(self) -> Limits:
        """The limits for tiles of half the side."""
        return Limits(self.room // 4, self.tile and self.tile // 2)


class Options(NamedTuple):
    """Arguments of ``Upscaler``, with ``halo`` and ``iterations`` filled in.

    Attributes:
        from_crop: whether ``kernel_from`` is ``"crop"``.
        blur: factor for the width of the kernel in the last Restorer pass.
    """

    tile: int | None
    halo: int
    iterations: int
    tolerance: float | None
    from_crop: bool
    blur: float


class Engine:
    """Runs a plan on canvases.

    Attributes:
        graphs: CUDA graphs of passes over whole images.
    """

    def __init__(self, plan: Plan, options: Options) -> None:
        self.plan, self.options = plan, options
        self.graphs = Graphs()
        self._fitted: tuple[int, Limits] | None = None  # LR pixels, and the limits that a GPU had enough memory for

    def upscale(self, canvas: Canvas, known: Tensor | None = None, wants_kernel: bool = True) -> Estimate | None:
        """Write the result, and return what the last Estimator pass found, if there was one.

        Args:
            canvas: with a result.
            known: (k, k), the kernel of all images; nothing is estimated.
            wants_kernel: estimate the kernel of the result too.
        """
        images = canvas.split()
        if known is not None:
            self._restore(images, [self._code_of(known[None])] * len(images))
            return None
        if self.options.blur != 1:
            # The last Restorer pass is one with a known kernel: a wider or narrower one than was estimated.
            found = self.estimate(canvas)
            self._restore(images, self._code_of(self.distributions(found)).split(1))
            return found
        if self._from_crop(canvas):
            # With the codes that the crops' own last Restorer passes used.
            estimate, codes = self._estimate_crops(images, wants_kernel)
            self._restore(images, codes)
            return estimate
        return self._alternate(canvas, wants_kernel)

    def estimate(self, canvas: Canvas) -> Estimate:
        """Return what ``upscale(canvas)`` would, and write nothing."""
        if self._from_crop(canvas):
            estimate, _ = self._estimate_crops(canvas.split(), True)
        else:
            estimate = self._alternate(canvas, True, writes=False)
        assert estimate is not None
        canvas.expect_finite(estimate.code, self.plan.dtype)
        return estimate

    def work(self, canvas: Canvas, *, known: bool, writes: bool) -> int:
        """The pixels of all passes over them that ``upscale`` (if it ``writes``) or ``estimate`` takes, at most."""
        pixels = len(canvas) * math.prod(canvas.size)
        refined = refiner_passes(self.plan.config) * pixels if writes else 0
        if known:
            return pixels + refined
        from_crop = self._from_crop(canvas)
        estimated = len(canvas) * math.prod(min(side, CROP) for side in canvas.size) if from_crop else pixels
        again = writes and (from_crop or self.options.blur != 1)
        # With a tolerance the result of a network with a Refiner is restored again before it is refined.
        again = again or (writes and refined > 0 and self.options.tolerance is not None)
        return self._iterations * estimated + (pixels if again else 0) + refined

    def distributions(self, estimate: Estimate) -> Tensor:
        """The estimated kernels, (N, k, k) float32, not negative, sum 1."""
        # Where only the code is estimated, the kernel is the closest one that the basis can write.
        kernels = estimate.kernel
        if kernels is None:
            kernels = PCAEncoder(self.plan.model.encoder[0]).decode(estimate.code)
        kernels = kernels.float().clamp(min=0)
        return kernels / kernels.sum((1, 2), keepdim=True)

    @property
    def _iterations(self) -> int:
        """How often Restorer and Estimator alternate; the pass with a scaled kernel takes the place of the last."""
        return self.options.iterations - (self.options.blur != 1)

    def _code_of(self, kernels: Tensor) -> Tensor:
        """The codes (N, c) of ``kernels`` (N, k, k), scaled as the options say."""
        return self.plan.encode(scaled(kernels, self.options.blur))

    def limits(self) -> Limits:
        """The limits for the memory that is free now."""
        plan = self.plan
        return Limits(room(plan.config, budget(plan.device), plan.dtype.itemsize), self.options.tile)

    def _from_crop(self, canvas: Canvas) -> bool:
        return self.options.from_crop and max(canvas.size) > CROP

    # --- all iterations -------------------------------------------------------------------------

    def _alternate(self, canvas: Canvas, wants_kernel: bool, *, writes: bool = True) -> Estimate | None:
        def compute(limits: Limits) -> Estimate | None:
            if batch := limits.whole_images(canvas):
                return _concatenated([self._alternate_whole(part, wants_kernel, writes)
                                      for part in canvas.split(batch)])
            return _concatenated([self._alternate_tiled(image, limits, wants_kernel, writes)
                                  for image in canvas.split()])
        return self._within_memory(compute, canvas)

    def _alternate_whole(self, images: Canvas, wants_kernel: bool, writes: bool) -> Estimate | None:
        sr, estimate, _ = self._pass(images.read(), wants_kernel, writes, images.progress)
        if sr is not None:
            images.write(sr)
        return estimate

    def _alternate_tiled(self, image: Canvas, limits: Limits, wants_kernel: bool, writes: bool) -> Estimate | None:
        outcome = alternate(self.plan, self._tiled(image, limits), self._iterations, writes=writes,
                            wants_kernel=wants_kernel, tolerance=self.options.tolerance)
        return outcome.estimate

    def _pass(self, lr: Tensor, wants_kernel: bool, writes: bool, progress: Progress
              ) -> tuple[Tensor | None, Estimate | None, Tensor]:
        """Alternate on whole images; return the result if it is wanted, the estimate, and the code that the last
        Restorer pass was given."""
        iterations, tolerance, pixels = self._iterations, self.options.tolerance, lr[:, 0].numel()

        def compute(lr: Tensor, on_passes: Callable[[int], object] = lambda count: None) -> tuple[Tensor | None, ...]:
            whole = Whole(self.plan, lr, on_passes)
            outcome = alternate(self.plan, whole, iterations, writes=writes, wants_kernel=wants_kernel,
                                tolerance=tolerance)
            kernel, code, _ = outcome.estimate or (None, None, None)
            return whole.sr, kernel, code, outcome.code

        if lr.is_cuda and pixels <= _LARGEST_GRAPH and tolerance is None and not without("inference_graphs"):
            sr, kernel, code, used = self.graphs(compute, lr, (wants_kernel, writes))
            progress.add((iterations + writes * refiner_passes(self.plan.config)) * pixels)
        else:
            sr, kernel, code, used = compute(lr, lambda count: progress.add(count * pixels))
        assert used is not None
        return sr, None if code is None else Estimate(kernel, code), used

    # --- one Restorer pass ----------------------------------------------------------------------

    def _estimate_crops(self, images: Sequence[Canvas], wants_kernel: bool) -> tuple[Estimate | None, list[Tensor]]:
        """The estimates from every image's most textured crop, and the codes of the crops' last Restorer passes."""
        passes = [self._pass(image.read(*most_textured(image.array(), CROP)), wants_kernel, False, image.progress)
                  for image in images]
        return _concatenated([estimate for _, estimate, _ in passes]), [code for _, _, code in passes]

    def _restore(self, images: Sequence[Canvas], codes: Sequence[Tensor]) -> None:
        def compute(limits: Limits) -> None:
            for image, code in zip(images, codes, strict=True):
                restore(self.plan, self._tiled(image, limits), code)
        self._within_memory(compute, *images)

    # --- memory ---------------------------------------------------------------------------------

    def _tiled(self, image: Canvas, limits: Limits) -> Tiled:
        """An image in one tile if there is room for it, else in tiles, as many at once as there is room for."""
        halo = self.options.halo
        if limits.whole_images(image):
            return Tiled(self.plan, image, [Tile.whole(*image.size)], 1)
        cut = tiles(*image.size, limits.tile or tile_side(limits.room, halo), halo)
        rows, columns = cut[0].window
        batch = max(1, limits.room // ((rows.stop - rows.start) * (columns.stop - columns.start)))
        if self.plan.device.type == "cpu":  # one tile per thread keeps it busy
            batch = min(batch, torch.get_num_threads())
        return Tiled(self.plan, image, cut, batch)

    def _within_memory(self, compute: Callable[[Limits], T], *canvases: Canvas) -> T:
        """Call ``compute``, which works on ``canvases``, with smaller limits while a GPU has too little memory.

        To ask a GPU how much memory is free takes as long as a small image, so limits that fitted are used again.
        """
        pixels = sum(len(canvas) * math.prod(canvas.size) for canvas in canvases)
        progress = canvases[0].progress
        done = progress.done
        known = self._fitted is not None and pixels <= self._fitted[0]
        limits = self._fitted[1] if self._fitted is not None and known else self.limits()
        while True:
            try:
                result = compute(limits)
                break
            except torch.OutOfMemoryError:
                self._fitted = None
                limits = limits.halved()
                if (limits.tile and limits.tile < SMALLEST_TILE) or limits.room < SMALLEST_TILE**2:
                    raise
            progress.back_to(done)
            self.graphs.clear()
            torch.cuda.empty_cache()
            warnings.warn("not enough GPU memory: going on with smaller tiles", stacklevel=2)
        if self.plan.device.type == "cuda" and not known:
            self._fitted = pixels, limits
        return result


def _concatenated(estimates: Sequence[Estimate | None]) -> Estimate | None:
    """The estimates of several batches as one; ``None`` if there are none."""
    known = [estimate for estimate in estimates if estimate is not None]
    if not known:
        return None
    kernels = [estimate.kernel for estimate in known if estimate.kernel is not None]
    return Estimate(torch.cat(kernels) if kernels else None, torch.cat([estimate.code for estimate in known]))
