"""Test sets of pairs: low-resolution images and sharp ones that somebody else made, such as DIV2KRK and RealSR."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..blur_kernels.files import read_kernels
from ..config import SCALES
from ..errors import DanFastError, ImageError
from ..image_files import find_images, read_image, to_8_bits
from .degraded_set import Degraded
from .metrics import WINDOW
from .pairing import find_partners, name_below, split_by_name


@dataclass(frozen=True)
class Pair:
    """The files of one case.

    Attributes:
        name: the sharp image's path below its folder.
        kernel: the true kernel's file; None if it is not known.
    """

    name: str
    lr: Path
    hr: Path
    kernel: Path | None


@dataclass(frozen=True)
class PairedSet:
    """Pairs of one test set; they are read while it is iterated over.

    Args:
        name: name of the set in tables and folders.
        scale: 2, 3 or 4.
        errors: one for each file that belongs to no pair.
    """

    name: str
    pairs: tuple[Pair, ...]
    scale: int
    errors: tuple[ImageError, ...] = ()

    # The images fit onto each other, whatever the shift of their kernel.
    registered = True
    kernels_per_image = 1

    @classmethod
    def from_folders(cls, lr: Path | str, hr: Path | str, scale: int, kernels: Path | str | None = None,
                     limit: int | None = None) -> PairedSet:
        """The pairs of images below two folders, which have the names that ``evaluation.pairing`` describes.

        The set is called as the folder ``lr``, which may also be ``hr`` itself.

        Args:
            kernels: folder of the true kernels, .npy or .mat, with the names of the sharp images or like them; a pair
                without a kernel counts as having no partner. None: the kernels are not known.
            limit: take only the first ``limit`` pairs, and report only sharp images before the last of them.

        Raises:
            DanFastError: the scale does not exist, or a folder holds no image, or no kernel.
        """
        if scale not in SCALES:
            raise DanFastError(f"scale={scale!r}: expected one of {', '.join(map(str, SCALES))}")
        lr, hr = Path(lr), Path(hr)
        low, sharp = find_images([lr]), find_images([hr])
        if lr.samefile(hr):
            low, sharp = split_by_name(sharp)
        partners = find_partners(hr, sharp, lr, low, scale)
        found, errors = partners.pairs, partners.errors
        kernel_of: dict[Path, Path] = {}
        if kernels is not None:
            kernels = Path(kernels)
            with_kernel = find_partners(hr, [sharp for sharp, _ in found], kernels, _kernel_files(kernels), scale)
            kernel_of = dict(with_kernel.pairs)
            # A file of a kernel may be left over: its image may be missing, which was said, or nobody wants it.
            errors |= {sharp: with_kernel.errors[sharp] for sharp, _ in found if sharp not in kernel_of}
            found = [pair for pair in found if pair[0] in kernel_of]
        pairs = [Pair(name_below(hr_path, hr), lr_path, hr_path, kernel_of.get(hr_path))
                 for hr_path, lr_path in found]
        if limit is not None:
            pairs = pairs[:limit]
            wanted = set(sharp)  # the others were not asked for
            errors = {path: error for path, error in errors.items()
                      if path in wanted and pairs and path < pairs[-1].hr}
        return cls(lr.resolve().name, tuple(pairs), scale, tuple(errors.values()))

    def __len__(self) -> int:
        return len(self.pairs)

    def cases(self, on_skip: Callable[[str], None] | None = None) -> Iterator[Degraded]:
        """Yield every pair; only one is in memory.

        Args:
            on_skip: is called with a message for each file without a partner, and for each pair with an unreadable
                file, or with images that do not fit together, and it is left out; None: such a file raises
                DanFastError.
        """
        def skip(error: DanFastError) -> None:
            if on_skip is None:
                raise error
            on_skip(str(error))

        for error in self.errors:
            skip(error)
        for pair in self.pairs:
            try:
                case = self._read(pair)
            except DanFastError as unusable:
                skip(unusable)
            else:
                yield case

    def _read(self, pair: Pair) -> Degraded:
        lr, hr = (to_8_bits(read_image(path).visible().rgb) for path in (pair.lr, pair.hr))
        height, width = (self.scale * side for side in lr.shape[:2])
        # What is left where the scale does not divide the sharp image was cut off before it was shrunk.
        if not (0 <= hr.shape[0] - height < self.scale and 0 <= hr.shape[1] - width < self.scale):
            raise ImageError(f"{pair.hr} has {hr.shape[1]}x{hr.shape[0]} pixels and {pair.lr} {lr.shape[1]}x"
                             f"{lr.shape[0]}: expected {self.scale} times as many, {width}x{height}, or less than "
                             f"{self.scale} more")
        if min(height, width) - 2 * self.scale < len(WINDOW):
            raise ImageError(f"{pair.hr}: {width}x{height} pixels are too few to measure: expected at least "
                             f"{len(WINDOW) + 2 * self.scale} on each side")
        kernel = None if pair.kernel is None else _only_kernel(pair.kernel)
        hr = np.ascontiguousarray(hr[:height, :width])
        return Degraded(pair.name, 0, None, hr, lr, kernel, self.registered)


def _kernel_files(folder: Path) -> list[Path]:
    """Every .npy and .mat below ``folder``."""
    if not folder.is_dir():
        raise DanFastError(f"{folder}: no such folder")
    found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".npy", ".mat") and path.is_file()]
    if not found:
        raise DanFastError(f"{folder}: holds no kernel (npy, mat)")
    return found


def _only_kernel(path: Path) -> np.ndarray:
    kernels = read_kernels(path)
    if len(kernels) != 1:
        raise DanFastError(f"{path}: holds {len(kernels)} kernels, expected that of one image")
    return kernels[0]
