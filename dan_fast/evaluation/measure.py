"""Measuring an upscaler on degraded test images, with plain bicubic upscaling beside it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from ..blur_kernels.shift import NO_SHIFT, Shift, centred, kernel_shift, moved
from ..degradation import bicubic_resize
from ..degradation.eight_bits import from_tensor, to_tensor
from ..errors import ToolError
from .degraded_set import Degraded
from .metrics import WINDOW, kernel_error, kernel_psnr, psnr, ssim
from .pictures import kernel_picture, side_by_side


class Upscaled(Protocol):
    """The result of an upscaler, for example ``dan_fast.inference.UpscaleResult``."""

    @property
    def image(self) -> np.ndarray:
        """(H*s, W*s, 3) uint8 RGB."""

    @property
    def kernel(self) -> np.ndarray | None:
        """(k, k), sum 1; None if none was estimated."""


class CaseSet(Protocol):
    """A test set that can be measured: a ``DegradedSet`` or a ``PairedSet``."""

    @property
    def name(self) -> str: ...

    @property
    def scale(self) -> int: ...

    @property
    def kernels_per_image(self) -> int: ...

    def __len__(self) -> int: ...

    def cases(self, on_skip: Callable[[str], None] | None = None) -> Iterator[Degraded]: ...


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
        """Not a number if one of the kernels is not known."""
        error = _kernel_measure(kernel_error, self.result.kernel, self.case.kernel)
        return math.nan if error is None else error


def upscale_cases(cases: Iterable[Degraded], upscale: Callable[[Degraded], Result], scale: int,
                  on_failure: Callable[[Degraded, ToolError], None] | None = None) -> Iterator[UpscaledCase[Result]]:
    """Yield ``cases`` upscaled; each is upscaled when the iterator reaches it.

    Args:
        on_failure: is called with each case at which ``upscale`` raises ToolError, and the case is left out; None: it
            is raised.
    """
    for case in cases:
        start = time.perf_counter()
        try:
            result = upscale(case)
        except ToolError as error:
            if on_failure is None:
                raise
            on_failure(case, error)
            continue
        yield UpscaledCase(case, result, scale, time.perf_counter() - start)


@dataclass(frozen=True)
class Row:
    """The measures of one image under one kernel, those of ``dan_fast.metrics``; PSNR in dB.

    PSNR and SSIM leave out a border as wide as the scale. ``shift_down`` and ``shift_right`` are the shift of the true
    kernel in pixels of the sharp image. A shifted image is not a bad one: the ``aligned_…`` measures compare the image
    moved back by the shift, without the border that moved in, and both kernels centred. Without a shift they equal
    those without ``aligned_``, and so do those of images that were given as a pair, which are not moved.

    What needs a kernel that is not known is None: without the true one ``kernel_…``, ``shift_…`` and ``aligned_…``,
    without an estimated one ``kernel_…`` and ``aligned_kernel_error``. ``seconds`` is the time of the upscaler's call.
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
    kernel_error: float | None
    kernel_psnr: float | None
    shift_down: float | None
    shift_right: float | None
    aligned_bicubic_psnr_y: float | None
    aligned_bicubic_ssim_y: float | None
    aligned_bicubic_psnr_rgb: float | None
    aligned_bicubic_ssim_rgb: float | None
    aligned_psnr_y: float | None
    aligned_ssim_y: float | None
    aligned_psnr_rgb: float | None
    aligned_ssim_rgb: float | None
    aligned_kernel_error: float | None
    seconds: float


def measure(degraded: CaseSet, upscale: Upscale, *, progress: bool = False,
            on_skip: Callable[[str], None] | None = None,
            on_measured: Callable[[Degraded, Upscaled], None] | None = None) -> list[Row]:
    """Measure ``upscale`` on every image and kernel of the set: one row each.

    Args:
        upscale: takes (h, w, 3) uint8; returns the image (h*s, w*s, 3) and its estimated kernel, or None.
        progress: show a progress bar.
        on_skip: is called with a message for each image that cannot be used, as by ``DegradedSet.cases``, and for each
            case at which the upscaler raises ToolError, and it is left out; None: they raise DanFastError.
        on_measured: is called with every case and its result, for example to write pictures.

    Raises:
        DanFastError: the upscaler's image is not of the sharp one's size.
    """
    def failed(case: Degraded, error: ToolError) -> None:
        if on_skip is None:
            raise error
        kernel = f", kernel {case.kernel_index}" if degraded.kernels_per_image > 1 else ""
        on_skip(f"{case.image}{kernel}: {error}")

    rows = []
    cases = tqdm(degraded.cases(on_skip), degraded.name, len(degraded), disable=not progress, unit="image")
    for upscaled in upscale_cases(cases, lambda case: upscale(case.lr), degraded.scale, failed):
        rows.append(_row(degraded.name, upscaled))
        if on_measured is not None:
            on_measured(upscaled.case, upscaled.result)
    return rows


def mean(rows: Iterable[Row], column: str) -> float | None:
    """Mean over ``rows``, at least one, of a column, for example ``"psnr_y"``; None where it is empty."""
    values = [value for value in (getattr(row, column) for row in rows) if value is not None]
    return float(np.mean(values)) if values else None


def bicubic(lr: np.ndarray, scale: int) -> np.ndarray:
    """``lr`` (h, w, 3) uint8 upscaled to (h*s, w*s, 3) uint8 as MATLAB's ``imresize`` does it."""
    # Channel by channel: a whole large image takes much memory in floating point.
    channels = [from_tensor(bicubic_resize(to_tensor(lr[..., c:c + 1]), scale)) for c in range(lr.shape[2])]
    return np.concatenate(channels, -1)


def comparison(case: Degraded, result: Upscaled, scale: int, name: str = "DAN") -> np.ndarray:
    """A picture (H, W, 3) uint8 of bicubic, the result, the sharp image, and the kernels that are known.

    Args:
        name: the upscaler's, for the label.
    """
    shown = [(bicubic(case.lr, scale), "bicubic"), (result.image, name), (case.hr, "sharp")]
    shown += [(kernel_picture(kernel), label) for kernel, label in ((result.kernel, "estimated"),
                                                                    (case.kernel, "true kernel")) if kernel is not None]
    return side_by_side([image for image, _ in shown], [label for _, label in shown])


def _row(name: str, upscaled: UpscaledCase) -> Row:
    """The row of one case of the set ``name``."""
    case, result, scale = upscaled.case, upscaled.result, upscaled.scale
    measures = _measures(case, result, scale, NO_SHIFT)
    shift, aligned = None, {}
    if case.kernel is not None:
        shift = kernel_shift(case.kernel)
        moved_back = NO_SHIFT if case.registered else shift
        aligned = measures if moved_back == NO_SHIFT else _measures(case, result, scale, moved_back)
    estimate, true = result.kernel, case.kernel
    error = aligned_error = _kernel_measure(kernel_error, estimate, true)
    if shift and shift != NO_SHIFT and estimate is not None and true is not None:
        aligned_error = kernel_error(centred(estimate).kernel, centred(true).kernel)
    columns: dict[str, Any] = {**measures, **{f"aligned_{measure}": aligned.get(measure) for measure in measures}}
    return Row(
        name, case.image, case.kernel_index, case.sigma, **columns,
        kernel_error=error, kernel_psnr=_kernel_measure(kernel_psnr, estimate, true),
        shift_down=shift and shift.down, shift_right=shift and shift.right, aligned_kernel_error=aligned_error,
        seconds=upscaled.seconds)


def _kernel_measure(measured: Callable[[np.ndarray, np.ndarray], float], estimate: np.ndarray | None,
                    true: np.ndarray | None) -> float | None:
    """``measured`` for the two kernels; None if one is not known."""
    return None if estimate is None or true is None else measured(estimate, true)


def _measures(case: Degraded, result: Upscaled, scale: int, shift: Shift) -> dict[str, float]:
    """Fidelity of bicubic and of the result, both moved by ``shift``; columns of ``Row``."""
    # The border that moved in is left out, but SSIM always keeps one window.
    unseen = math.ceil(max(map(abs, shift)))
    crop = scale + max(0, min(unseen, (min(case.hr.shape[:2]) - len(WINDOW)) // 2 - scale))
    return {
        **fidelity(_moved(bicubic(case.lr, scale), shift), case.hr, crop, "bicubic_"),
        **fidelity(_moved(result.image, shift), case.hr, crop, ""),
    }


def _moved(image: np.ndarray, shift: Shift) -> np.ndarray:
    return image if shift == NO_SHIFT else from_tensor(moved(to_tensor(image), shift))


def fidelity(image: np.ndarray, hr: np.ndarray, crop: int, prefix: str = "") -> dict[str, float]:
    """PSNR and SSIM on Y and RGB of ``image`` and ``hr``, (H, W, 3) uint8, without a border of ``crop`` pixels.

    They are called ``psnr_y`` and so on, after ``prefix``.
    """
    return {
        f"{prefix}{measured.__name__}_{channels}": measured(image, hr, crop=crop, y_channel=channels == "y")
        for measured in (psnr, ssim) for channels in ("y", "rgb")
    }
