"""The upscaler: images of any size and kind through a DAN network."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..blur_kernels.known import KnownKernel, known_kernel
from ..blur_kernels.shift import NO_SHIFT, moved
from ..config import DANConfig
from ..errors import DanFastError
from ..fast_model.reach import network_reach
from ..fast_model.versions import plan_for
from ..model import DAN
from ..runtime.cuda_graphs import TURN
from .canvas import Canvas, user_image
from .engine import SMALLEST_TILE, Engine, Options
from .ensemble import DIRECTIONS, ensemble
from .graphs import GraphStats
from .progress import Progress, Report
from .tiling import default_halo

KERNEL_FROM = ("image", "crop")
BLUR = 0.25, 4.0  # smallest and largest factor


class UpscaleResult(NamedTuple):
    """The result of an :class:`Upscaler`.

    Attributes:
        image: the result, of the kind and type of the image: HxWx3 becomes (H*s)x(W*s)x3.
        kernel: (k, k) float32, not negative, sum 1: the estimated blur in HR pixels. If the kernel was known, that
            one: not moved to its centre, with zeros around a smaller one, and a larger one in its own size. ``None`` if
            it was not wanted. (B, k, k) for a batch of tensors. It is not scaled by ``blur``.
    """

    image: Any
    kernel: Any


class UpscalerStats(NamedTuple):
    """Counts and times of an upscaler so far.

    Attributes:
        images: how many were upscaled; each image of a batch counts.
        seconds: by stage of the network, and of all calls (``"total"``). On a CPU the stages are parts of the total. On
            a GPU they are the time they took there, without replayed graphs, while the calls went on.
        graphs: what the CUDA graphs did.
    """

    images: int
    seconds: dict[str, float]
    graphs: GraphStats


class Upscaler:
    """Upscales images and estimates their blur.

    An image that fits into memory in one piece gets the model's own result, ``model(lr)`` rounded. A larger one is cut
    into tiles with a halo, which all use one kernel: in every iteration the Estimator averages over all tiles before
    its softmax, as it does over a whole image. With ``halo=Upscaler.full_halo(config)`` the result is the untiled one
    up to rounding. With the default halo, at most 28 pixels, no 8-bit value of the published network with random
    weights changed by more than 1. v1's channel attention averages over a tile instead of the image, which differs a
    little everywhere.

    Args:
        model: the network; it is copied, and stays as it is.
        tile: side of a tile in LR pixels, without the halo, at least 16; ``None``: as large as half of the free memory
            allows, on a CPU at most 1.5 GB. If a GPU has too little memory after all, it is halved, with a warning.
        halo: LR pixels around a tile that the network sees too; ``None``: as far as the result depends on the
            image, at most 28.
        dtype: floating-point type to compute in; ``None``: the model's.
        device: where to compute; ``None``: where the model is.
        iterations: of Restorer and Estimator; ``None``: the model's.
        tolerance: stop after an iteration that moved the kernel by no more than this (sum of absolute differences, 0 to
            2); ``None``: never. Not exact.
        kernel_from: ``"image"``, or ``"crop"``: all iterations on the most textured 128x128 pixels only, then one
            Restorer pass over the whole image with that kernel. Not exact; flat parts of a photo say nothing about its
            blur.
        ensemble: give the mean of the eight results for the image turned and mirrored; eight times as slow. Not exact.
        strength: share of the network's result, 0 to 1; the rest is bicubic enlargement of the image, MATLAB's.
        blur: factor, 0.25 to 4, by which the kernel is widened before the last Restorer pass, the estimated one or a
            known one. Below 1 the image is sharpened less than its blur calls for, above 1 more. The other iterations
            stay as they are, so that the result's ``kernel`` is the estimate of the last but one.

    Raises:
        DanFastError: an argument is impossible; the message names it.
    """

    def __init__(self, model: DAN, *, tile: int | None = None, halo: int | None = None,
                 dtype: torch.dtype | None = None, device: torch.device | str | None = None,
                 iterations: int | None = None, tolerance: float | None = None, kernel_from: str = "image",
                 ensemble: bool = False, strength: float = 1.0, blur: float = 1.0) -> None:
        _check_number("tile", tile, SMALLEST_TILE, " (LR pixels), or None to choose it by memory")
        _check_number("halo", halo, 0, " (LR pixels), or None for the default")
        _check_number("iterations", iterations, 1, ", or None for the model's")
        if tolerance is not None and not tolerance >= 0:
            raise DanFastError(f"tolerance={tolerance!r}: expected a number of at least 0, or None for no end")
        if kernel_from not in KERNEL_FROM:
            raise DanFastError(f"kernel_from={kernel_from!r}: expected one of {', '.join(map(repr, KERNEL_FROM))}")
        _check_dial("strength", strength, 0, 1)
        _check_dial("blur", blur, *BLUR)
        if dtype is not None and not dtype.is_floating_point:
            raise DanFastError(f"dtype={dtype}: expected a floating-point type")
        self._options: dict[str, Any] = {
            "tile": tile, "halo": halo, "dtype": dtype, "device": device, "iterations": iterations,
            "tolerance": tolerance, "kernel_from": kernel_from, "ensemble": ensemble, "strength": strength,
            "blur": blur}
        iterations = model.config.iterations if iterations is None else iterations
        if blur != 1 and iterations < 2:
            raise DanFastError(f"blur={blur:g} with iterations={iterations}: nothing is estimated before the only "
                               "iteration; expected at least 2 iterations")
        self.device = torch.device(device) if device is not None else model.encoder.device
        self.model = copy.deepcopy(model).eval().requires_grad_(False).to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.plan = plan_for(self.model, dtype)
        self.scale, self.ensemble, self.strength = model.config.scale, ensemble, strength
        self._engine = Engine(self.plan, Options(
            tile, default_halo(model.config) if halo is None else halo,
            iterations, tolerance, kernel_from == "crop", blur))
        self._images, self._seconds = 0, 0.0
        self._before = self.plan.stopwatch.seconds()  # spent on the plan

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy only the network and the options; everything else is made anew and counts from zero."""
        return partial(type(self), **self._options), (self.model,)

    @staticmethod
    def full_halo(config: DANConfig) -> int:
        """The smallest halo with which tiles are exact: 117 for the published v2. v1's attention is left out."""
        return network_reach(config)

    def __call__(self, image: Any, *, kernel: np.ndarray | Tensor | KnownKernel | None = None,
                 wants_kernel: bool = True, progress: Report | None = None) -> UpscaleResult:
        """Upscale ``image``.

        Args:
            image: an array, HxWx3 RGB or HxW grey, uint8, uint16 or floating point in [0, 1]; a PIL image, RGB or L;
                or a floating-point tensor in [0, 1], (3, H, W) or (B, 3, H, W), where every image has its own kernel.
                The result is of the same kind and type; floating point is clamped to [0, 1] and not rounded.
            kernel: the blur, if it is known, (n, n), its middle at ``n // 2``: nothing is estimated. If its centre of
                mass is not in its middle, it is centred for the network, and the result is moved back by its shift,
                so that it lies on the sharp image (``dan_fast.blur_kernels.shift``). Pixels that move in from beyond
                the edge repeat the edge. It may be larger than the network's k x k pixels if at most 2 % of the
                centred kernel lie outside of them. For many images it can be checked once, by ``known_kernel``.
            wants_kernel: return the kernel too, which takes one more pass of the Estimator if it is not known.
            progress: called with (done, total) after each tile of each iteration, and at the end with (total, total);
                both count pixels times passes. ``done`` only grows. An error that it raises ends the call and comes
                out of it; the upscaler can be used again.

        Raises:
            DanFastError: the image or the kernel is of another kind, the image is in colour and the model for grey
                images, or the network's output is not finite.
            MemoryError: this machine's memory is too small; a smaller ``tile`` takes less.
        """
        pixels, give_back = user_image(image, self.model.config.image_channels)
        known = None if kernel is None else self._known(kernel)
        result, kernels = self._upscale(pixels, known, wants_kernel, progress)
        if kernels is not None and not (isinstance(image, Tensor) and image.dim() == 4):
            kernels = kernels[0]
        return UpscaleResult(give_back(result), kernels)

    def batch(self, images: Iterable[np.ndarray], *, wants_kernel: bool = True, progress: Report | None = None
              ) -> list[UpscaleResult]:
        """Upscale arrays of one size and type, as many at once as memory allows; on a GPU faster for small images.

        ``wants_kernel`` and ``progress`` are as in ``self(image)``.

        Raises:
            DanFastError: the images differ in size or type, or ``self(image)`` would raise it for one of them.
        """
        found = [user_image(image, self.model.config.image_channels) for image in images]
        kinds = {(tuple(one.pixels.shape), one.pixels.dtype) for one in found}
        if len(kinds) > 1:
            raise DanFastError(f"the images of a batch differ: {', '.join(sorted(map(str, kinds)))}; "
                               "expected one size and type")
        if not found:
            return []
        results, kernels = self._upscale(torch.cat([one.pixels for one in found]), None, wants_kernel, progress)
        return [UpscaleResult(one.give_back(result[None]), None if kernels is None else kernels[n])
                for n, (one, result) in enumerate(zip(found, results, strict=True))]

    @torch.inference_mode()
    def estimate_kernel(self, image: Any, *, progress: Report | None = None) -> np.ndarray:
        """The ``kernel`` that ``self(image)`` would return, in less time. With ``ensemble``: the image's own, not the
        mean over the turned ones. ``progress`` is as in ``self(image)``."""
        pixels, _ = user_image(image, self.model.config.image_channels)
        with self._in_turn():
            canvas = self._canvas(pixels)
            canvas.progress = Progress(progress, self._engine.work(canvas, known=False, writes=False))
            kernels = self._engine.distributions(self._engine.estimate(canvas))
            canvas.complete()
            canvas.progress.finish()
            found = kernels.cpu().numpy()
            return found if isinstance(image, Tensor) and image.dim() == 4 else found[0]

    def stats(self) -> UpscalerStats:
        """Counts and times so far."""
        stages = {stage: seconds - self._before.get(stage, 0.0)
                  for stage, seconds in self.plan.stopwatch.seconds().items()}
        return UpscalerStats(self._images, {**stages, "total": self._seconds}, self._engine.graphs.stats())

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Run the block, on a GPU one thread after the other, and add its time to the total, also if it fails."""
        start = time.perf_counter()
        try:
            # While one thread captures a CUDA graph, GPU work of another can spoil it, and fail itself.
            with TURN if self.device.type == "cuda" else nullcontext():
                yield
        except RuntimeError as error:
            if "DefaultCPUAllocator" not in str(error):
                raise
            raise MemoryError("there is not enough memory: upscale with a smaller tile") from error
        finally:
            self._seconds += time.perf_counter() - start

    @torch.inference_mode()
    def _upscale(self, pixels: Tensor, known: KnownKernel | None, wants_kernel: bool, report: Report | None
                 ) -> tuple[Tensor, np.ndarray | None]:
        """The results (N, C, H*s, W*s), and the kernels (N, k, k) if they are wanted."""
        with self._in_turn():
            centred = None if known is None else torch.from_numpy(known.centred).to(self.device)

            def upscale(canvas: Canvas, centred: Tensor | None) -> Tensor | None:
                estimate = self._engine.upscale(canvas, centred, wants_kernel)
                return None if estimate is None or not wants_kernel else self._engine.distributions(estimate)

            canvas = self._canvas(pixels)
            work = self._engine.work(canvas, known=known is not None, writes=True)
            canvas.progress = Progress(report, work * (len(DIRECTIONS) if self.ensemble else 1))
            canvas = canvas.with_result()
            kernels = ensemble(upscale, canvas, centred) if self.ensemble else upscale(canvas, centred)
            canvas.complete()
            canvas.progress.finish()
            assert canvas.result is not None
            result = moved(canvas.result, known.shift if known else NO_SHIFT)
            if known is not None and wants_kernel:
                kernels = torch.from_numpy(known.given).expand(len(pixels), -1, -1)
            self._images += len(pixels)
            return result, None if kernels is None else kernels.cpu().numpy()

    def _known(self, kernel: np.ndarray | Tensor | KnownKernel) -> KnownKernel:
        """``kernel`` checked, and centred for the network."""
        size = self.model.config.kernel_size
        if not isinstance(kernel, KnownKernel):
            return known_kernel(kernel, size)
        if len(kernel.centred) != size:
            raise DanFastError(f"the known kernel is for networks of kernel size {len(kernel.centred)}, this one has "
                               f"{size}: call known_kernel(kernel, {size})")
        return kernel

    def _canvas(self, pixels: Tensor) -> Canvas:
        return Canvas(pixels, self.scale, self.model.config.image_channels, self.device, strength=self.strength)


def _check_number(name: str, value: int | None, lowest: int, otherwise: str) -> None:
    if value is not None and (type(value) is not int or value < lowest):
        raise DanFastError(f"{name}={value!r}: expected a whole number of at least {lowest}{otherwise}")


def _check_dial(name: str, value: float, lowest: float, highest: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest <= value <= highest:
        raise DanFastError(f"{name}={value!r}: expected a number from {lowest:g} to {highest:g}")
