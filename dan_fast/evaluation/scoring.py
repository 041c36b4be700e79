"""Two folders of images compared: results, of whatever upscaler, and the sharp images that they should be."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ..errors import DanFastError, ImageError
from ..files import write_table
from ..image_files import find_images, read_image, to_8_bits
from .measure import fidelity
from .metrics import WINDOW
from .pairing import find_partners, name_below
from .pictures import side_by_side

# Papers leave out a border as wide as the scale; this is the largest one, and so fair to results of all scales.
CROP = 4
SHOWN = 10  # images of a sheet
_PART = 512  # largest side of what is shown of an image, pixels
_BESIDE = ("_kernel", "_compare")  # endings of the pictures that dan-fast upscale writes beside its results


@dataclass(frozen=True)
class Score:
    """How close a result is to its sharp image.

    Attributes:
        image: path of the result below its folder.
        psnr_y, psnr_rgb: dB; infinite for equal images.
        ssim_y, ssim_rgb: -1 to 1.
    """

    image: str
    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    ssim_rgb: float


COLUMNS = tuple(field.name for field in fields(Score))
MEASURES = COLUMNS[1:]
# Is called with each score, the result and the sharp image, (H, W, 3) uint8.
OnScored = Callable[[Score, np.ndarray, np.ndarray], None]


def score_folders(results: Path, against: Path, *, crop: int = CROP, progress: bool = False,
                  on_skip: Callable[[str], None] | None = None, on_scored: OnScored | None = None) -> list[Score]:
    """Compare every image below ``results`` with the one below ``against`` that ``evaluation.pairing`` finds for it.

    Images of 16 bits are compared in 8, grey ones as colours that are equal. The pictures of kernels and comparisons
    that ``dan-fast upscale`` writes beside its results are left out.

    Args:
        crop: pixels left out on every side.
        progress: show a progress bar.
        on_skip: is called with a message for each image without a partner, and for each pair that is unreadable, of
            different sizes, or too small; None: such an image raises ImageError.
        on_scored: see ``OnScored``.

    Raises:
        DanFastError: a folder holds no image, the two are one folder, or no two images could be compared.
    """
    theirs = find_images([against])
    ours = find_images([results])
    if results.samefile(against):
        raise DanFastError(f"{results} and {against} are one folder: expected results, and the sharp images elsewhere")
    ours = [path for path in ours if not _lies_beside(path, set(ours))]
    partners = find_partners(results, ours, against, theirs)

    def skip(error: ImageError) -> None:
        if on_skip is None:
            raise error
        on_skip(str(error))

    for error in partners.errors.values():
        skip(error)
    scores = []
    for result, sharp in tqdm(partners.pairs, disable=not progress, unit="image"):
        try:
            a, b = (to_8_bits(read_image(path).visible().rgb) for path in (result, sharp))
            if a.shape != b.shape:
                raise ImageError(f"{result} has {a.shape[1]}x{a.shape[0]} pixels and {sharp} {b.shape[1]}x"
                                 f"{b.shape[0]}: expected images of one size")
            if min(a.shape[:2]) - 2 * crop < len(WINDOW):
                raise ImageError(f"{result}: of {a.shape[1]}x{a.shape[0]} pixels too few are left without a border of "
                                 f"{crop}: expected at least {len(WINDOW)} on each side")
        except ImageError as unusable:
            skip(unusable)
            continue
        score = Score(name_below(result, results), **fidelity(a, b, crop))
        scores.append(score)
        if on_scored is not None:
            on_scored(score, a, b)
    if not scores:
        raise DanFastError(f"no image of {results} could be compared with one of {against}: expected images of the "
                           "same names and sizes")
    return scores


def mean_score(scores: Sequence[Score]) -> Score:
    """The means over ``scores``, at least one, as a score that is called ``mean``."""
    return Score("mean", **{name: float(np.mean([getattr(score, name) for score in scores])) for name in MEASURES})


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write ``scores`` and below them their means as a CSV file.

    Raises:
        DanFastError: the file cannot be written.
    """
    write_table(path, COLUMNS, [astuple(score) for score in (*scores, mean_score(scores))])


class WorstSheet:
    """Collects the worst results by PSNR on Y, the first ``SHOWN``, for one picture; an ``OnScored``.

    Of images larger than 512 pixels the part is shown in which they differ most.
    """

    def __init__(self) -> None:
        self._worst: list[tuple[float, int, str, np.ndarray]] = []
        self._number = 0

    def __call__(self, score: Score, result: np.ndarray, sharp: np.ndarray) -> None:
        """Take note of a result: (H, W, 3) uint8 both."""
        self._number += 1
        rank = -score.psnr_y, -self._number
        if len(self._worst) == SHOWN and rank <= self._worst[0][:2]:
            return
        part = _most_different(result, sharp, _PART)
        picture = side_by_side([np.ascontiguousarray(image[part]) for image in (result, sharp)],
                               [f"{score.image}: {score.psnr_y:.2f} dB", "sharp"])
        entry = (*rank, score.image, picture)
        if len(self._worst) < SHOWN:
            heapq.heappush(self._worst, entry)
        else:
            heapq.heapreplace(self._worst, entry)

    @property
    def images(self) -> list[str]:
        """Names of the images that are shown, the worst first."""
        return [image for _, _, image, _ in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]

    def picture(self) -> np.ndarray:
        """The sheet, (H, W, 3) uint8: each result beside its sharp image, the worst above."""
        pictures = [entry[3] for entry in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]
        width = max(picture.shape[1] for picture in pictures)
        return np.concatenate([np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=255)
                               for picture in pictures])


def _lies_beside(path: Path, others: set[Path]) -> bool:
    """Whether ``path`` is a picture that ``dan-fast upscale`` wrote beside one of ``others``."""
    stem = next((path.stem.removesuffix(ending) for ending in _BESIDE if path.stem.endswith(ending)), None)
    return stem is not None and any(other.parent == path.parent and other.stem == stem for other in others)


def _most_different(a: np.ndarray, b: np.ndarray, side: int) -> tuple[slice, slice]:
    """The part of at most ``side`` x ``side`` pixels in which two images differ most, in the mean of squares."""
    height, width = (min(length, side) for length in a.shape[:2])
    squares = (cv2.absdiff(a, b).astype(np.float32) ** 2).sum(2)
    sums = cv2.integral(squares)
    of_parts = (sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width])
    top, left = np.unravel_index(int(of_parts.argmax()), of_parts.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)
