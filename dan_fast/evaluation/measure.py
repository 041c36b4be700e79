"""Measures an upscaler on degraded test images, beside plain bicubic upscaling."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from tqdm import tqdm

from ..blur_kernels.shift import NO_SHIFT, Shift, centred, kernel_shift, moved
from ..degradation import bicubic_resize
from ..degradation.eight_bits import from_tensor, to_tensor
from .degraded_set import Degraded, DegradedSet
from .metrics import WINDOW, kernel_error, kernel_psnr, psnr, ssim
from .pictures import kernel_picture, side_by_side


class Upscaled(Protocol):
    """What an upscaler returns, for example ``dan_fast.inference.UpscaleResult``."""

    @property
    def image(self) -> np.ndarray:
        """(H*s, W*s, 3) uint8 RGB."""

    @property
    def kernel(self) -> np.ndarray:
        """(k, k), sum 1."""


Upscale = Callable[[np.ndarray], Upscaled]


@dataclass(frozen=True)
class Row:
    """One image under one kernel. PSNR in dB; the measures are those of ``dan_fast.metrics``.

    PSNR and SSIM leave out a border as wide as the scale. ``shift_down`` and ``shift_right`` are the true kernel's, in
    pixels of the sharp image. ``aligned_…`` are the measures without it, as an image that is shifted is not a bad one:
    the image moved back by it, less the border that moves in, and both kernels centred. Without a shift they are the
    same as those without ``aligned_``. ``seconds`` is the upscaler's call alone.
    """

    set: str
    image: str
    kernel: int
    sigma: float | None
    bicubic_psnr_y: float
    bicubic_ssim_y: float
    bicubic_psnr_rgb: float
    bicubic_ssim_rgb: float
    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    ssim_rgb: float
    kernel_error: float
    kernel_psnr: float
    shift_down: float
    shift_right: float
    aligned_bicubic_psnr_y: float
    aligned_bicubic_ssim_y: float
    aligned_bicubic_psnr_rgb: float
    aligned_bicubic_ssim_rgb: float
    aligned_psnr_y: float
    aligned_ssim_y: float
    aligned_psnr_rgb: float
    aligned_ssim_rgb: float
    aligned_kernel_error: float
    seconds: float


def measure(degraded: DegradedSet, upscale: Upscale, *, progress: bool = False,
            on_skip: Callable[[str], None] | None = None,
            on_measured: Callable[[Degraded, Upscaled], None] | None = None) -> list[Row]:
    """One row for each image and kernel of the set.

    Args:
        upscale: (h, w, 3) uint8 -> the image (h*s, w*s, 3) and its estimated kernel.
        progress: show a progress bar.
        on_skip: as for ``DegradedSet.cases``: images left out; by default they raise ImageError.
        on_measured: sees every case and its result, for example to write pictures.

    Raises:
        DanFastError: the upscaler's image has not the size of the sharp one.
    """
    rows = []
    cases = degraded.cases(on_skip)
    for case in tqdm(cases, degraded.name, len(degraded), disable=not progress, unit="image"):
        start = time.perf_counter()
        result = upscale(case.lr)
        seconds = time.perf_counter() - start
        shift = kernel_shift(case.kernel)
        measures = _measures(case, result, degraded.scale, NO_SHIFT)
        aligned = measures if shift == NO_SHIFT else _measures(case, result, degraded.scale, shift)
        rows.append(Row(
            degraded.name, case.image, case.kernel_index, case.sigma, **measures,
            kernel_psnr=kernel_psnr(result.kernel, case.kernel), shift_down=shift.down, shift_right=shift.right,
            **{f"aligned_{name}": value for name, value in aligned.items()}, seconds=seconds,
        ))
        if on_measured is not None:
            on_measured(case, result)
    return rows


def mean(rows: Iterable[Row], column: str) -> float:
    """Mean of one column, for example ``"psnr_y"``; at least one row."""
    return float(np.mean([getattr(row, column) for row in rows]))


def bicubic(lr: np.ndarray, scale: int) -> np.ndarray:
    """(h, w, 3) uint8 -> (h*s, w*s, 3) uint8, upscaled as MATLAB's ``imresize`` does."""
    return from_tensor(bicubic_resize(to_tensor(lr), scale))


def comparison(case: Degraded, result: Upscaled, scale: int) -> np.ndarray:
    """A picture (HxWx3 uint8) of bicubic, DAN, the sharp image, and the estimated and true kernel."""
    return side_by_side(
        [bicubic(case.lr, scale), result.image, case.hr, kernel_picture(result.kernel), kernel_picture(case.kernel)],
        ["bicubic", "DAN", "sharp", "estimated", "true kernel"])


def _measures(case: Degraded, result: Upscaled, scale: int, shift: Shift) -> dict[str, float]:
    """Those of bicubic and of the result, both moved by ``shift``, and the kernels' error."""
    # Less what moved in, but never so much that SSIM has no window left.
    unseen = math.ceil(max(map(abs, shift)))
    crop = scale + max(0, min(unseen, (min(case.hr.shape[:2]) - len(WINDOW)) // 2 - scale))
    kernels = result.kernel, case.kernel
    if shift != NO_SHIFT:
        kernels = centred(result.kernel).kernel, centred(case.kernel).kernel
    return {
        **_fidelity(_moved(bicubic(case.lr, scale), shift), case.hr, crop, "bicubic_"),
        **_fidelity(_moved(result.image, shift), case.hr, crop, ""),
        "kernel_error": kernel_error(*kernels),
    }


def _moved(image: np.ndarray, shift: Shift) -> np.ndarray:
    return image if shift == NO_SHIFT else from_tensor(moved(to_tensor(image), shift))


def _fidelity(image: np.ndarray, hr: np.ndarray, crop: int, prefix: str) -> dict[str, float]:
    return {
        f"{prefix}{measured.__name__}_{channels}": measured(image, hr, crop=crop, y_channel=channels == "y")
        for measured in (psnr, ssim) for channels in ("y", "rgb")
    }
