"""Measuring an upscaler on degraded test images, with plain bicubic upscaling beside it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from ..blur_kernels.shift import NO_SHIFT, Shift, centred, kernel_shift, moved
from ..degradation import bicubic_resize
from ..degradation.eight_bits import from_tensor, to_tensor
from .degraded_set import Degraded, DegradedSet
from .metrics import WINDOW, kernel_error, kernel_psnr, psnr, ssim
from .pictures import kernel_picture, side_by_side


class Upscaled(Protocol):
    """The result of an upscaler, for example ``dan_fast.inference.UpscaleResult``."""

    @property
    def image(self) -> np.ndarray:
        """(H*s, W*s, 3) uint8 RGB."""

    @property
    def kernel(self) -> np.ndarray:
        """(k, k), sum 1."""


Upscale = Callable[[np.ndarray], Upscaled]
Result = TypeVar("Result", bound=Upscaled)


@dataclass(frozen=True)
class UpscaledCase(Generic[Result]):
    """One case of a test set, upscaled. Each measure is computed when it is read.

    Attributes:
        case: the case.
        result: the upscaler's result for ``case.lr``.
        scale: scale of the set; PSNR and SSIM leave out a border of as many pixels.
        seconds: time of the upscaler's call.
    """

    case: Degraded
    result: Result
    scale: int
    seconds: float

    @property
    def psnr_y(self) -> float:
        return psnr(self.result.image, self.case.hr, crop=self.scale, y_channel=True)

    @property
    def ssim_y(self) -> float:
        return ssim(self.result.image, self.case.hr, crop=self.scale, y_channel=True)

    @property
    def kernel_error(self) -> float:
        return kernel_error(self.result.kernel, self.case.kernel)


def upscale_cases(cases: Iterable[Degraded], upscale: Callable[[Degraded], Result], scale: int
                  ) -> Iterator[UpscaledCase[Result]]:
    """Yield ``cases`` upscaled; each is upscaled when the iterator reaches it."""
    for case in cases:
        start = time.perf_counter()
        result = upscale(case)
        yield UpscaledCase(case, result, scale, time.perf_counter() - start)


@dataclass(frozen=True)
class Row:
    """The measures of one image under one kernel, those of ``dan_fast.metrics``; PSNR in dB.

    PSNR and SSIM leave out a border as wide as the scale. ``shift_down`` and ``shift_right`` are the shift of the true
    kernel in pixels of the sharp image. A shifted image is not a bad one: the ``aligned_…`` measures compare the image
    moved back by the shift, without the border that moved in, and both kernels centred. Without a shift they equal
    those without ``aligned_``. ``seconds`` is the time of the upscaler's call.
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
    """Measure ``upscale`` on every image and kernel of the set: one row each.

    Args:
        upscale: takes (h, w, 3) uint8; returns the image (h*s, w*s, 3) and its estimated kernel.
        progress: show a progress bar.
        on_skip: as for ``DegradedSet.cases``: is told of images that are left out; None: they raise ImageError.
        on_measured: is called with every case and its result, for example to write pictures.

    Raises:
        DanFastError: the upscaler's image is not of the sharp one's size.
    """
    rows = []
    cases = tqdm(degraded.cases(on_skip), degraded.name, len(degraded), disable=not progress, unit="image")
    for upscaled in upscale_cases(cases, lambda case: upscale(case.lr), degraded.scale):
        case, result = upscaled.case, upscaled.result
        shift = kernel_shift(case.kernel)
        measures = _measures(case, result, degraded.scale, NO_SHIFT)
        aligned = measures if shift == NO_SHIFT else _measures(case, result, degraded.scale, shift)
        rows.append(Row(
            degraded.name, case.image, case.kernel_index, case.sigma, **measures,
            kernel_psnr=kernel_psnr(result.kernel, case.kernel), shift_down=shift.down, shift_right=shift.right,
            **{f"aligned_{name}": value for name, value in aligned.items()}, seconds=upscaled.seconds,
        ))
        if on_measured is not None:
            on_measured(case, result)
    return rows


def mean(rows: Iterable[Row], column: str) -> float:
    """Mean over ``rows``, at least one, of a column, for example ``"psnr_y"``."""
    return float(np.mean([getattr(row, column) for row in rows]))


def bicubic(lr: np.ndarray, scale: int) -> np.ndarray:
    """``lr`` (h, w, 3) uint8 upscaled to (h*s, w*s, 3) uint8 as MATLAB's ``imresize`` does it."""
    # Channel by channel: a whole large image takes much memory in floating point.
    channels = [from_tensor(bicubic_resize(to_tensor(lr[..., c:c + 1]), scale)) for c in range(lr.shape[2])]
    return np.concatenate(channels, -1)


def comparison(case: Degraded, result: Upscaled, scale: int) -> np.ndarray:
    """A picture (H, W, 3) uint8 of bicubic, DAN, the sharp image, and the estimated and true kernel."""
    return side_by_side(
        [bicubic(case.lr, scale), result.image, case.hr, kernel_picture(result.kernel), kernel_picture(case.kernel)],
        ["bicubic", "DAN", "sharp", "estimated", "true kernel"])


def _measures(case: Degraded, result: Upscaled, scale: int, shift: Shift) -> dict[str, float]:
    """Fidelity of bicubic and of the result, both moved by ``shift``, and the kernel error; columns of ``Row``."""
    # The border that moved in is left out, but SSIM always keeps one window.
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
