"""Measures an upscaler on degraded test images, beside plain bicubic upscaling."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from tqdm import tqdm

from .degradation import bicubic_resize
from .degraded_set import Degraded, DegradedSet, from_tensor, to_tensor
from .metrics import kernel_error, kernel_psnr, psnr, ssim
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

    PSNR and SSIM leave out a border as wide as the scale. ``seconds`` is the upscaler's call alone.
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
        crop = degraded.scale
        rows.append(Row(
            degraded.name, case.image, case.kernel_index, case.sigma,
            **_fidelity(bicubic(case.lr, degraded.scale), case.hr, crop, "bicubic_"),
            **_fidelity(result.image, case.hr, crop, ""),
            kernel_error=kernel_error(result.kernel, case.kernel),
            kernel_psnr=kernel_psnr(result.kernel, case.kernel),
            seconds=seconds,
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


def _fidelity(image: np.ndarray, hr: np.ndarray, crop: int, prefix: str) -> dict[str, float]:
    return {
        f"{prefix}{measured.__name__}_{channels}": measured(image, hr, crop=crop, y_channel=channels == "y")
        for measured in (psnr, ssim) for channels in ("y", "rgb")
    }
