"""Test sets: sharp images, blurred and shrunk by known kernels, the same every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..degradation import gaussian_kernels
from ..degradation.degrade import degrade_image
from ..degradation.pipeline import Degradation
from ..errors import DanFastError, ImageError
from ..image_files import find_images, read_image, to_8_bits
from .crops import crop_to_multiple

GAUSSIAN8_SIGMA = {2: (0.80, 1.60), 3: (1.35, 2.40), 4: (1.80, 3.20)}
KERNEL_SIZE = 21

# The kernels of one image: scale and the image's own generator -> sigmas (None where there is
# no single one) and kernels (n, k, k).
Protocol = Callable[[int, torch.Generator], tuple[list[float | None], Tensor]]


def isotropic(*sigmas: float) -> Protocol:
    """The same isotropic Gaussian kernels, 21x21, for every image."""
    return lambda scale, generator: (list(sigmas), gaussian_kernels(torch.tensor(sigmas), KERNEL_SIZE))


def given(kernels: np.ndarray) -> Protocol:
    """The same ``kernels`` (n, k, k), each with sum 1, for every image."""
    return lambda scale, generator: ([None] * len(kernels), torch.from_numpy(kernels))


def gaussian8(scale: int, generator: torch.Generator) -> tuple[list[float | None], Tensor]:
    """The 8 isotropic kernels of setting 1's tests (v1, section 4.1)."""
    sigmas = np.linspace(*GAUSSIAN8_SIGMA[scale], 8).tolist()
    return isotropic(*sigmas)(scale, generator)


def irregular(scale: int, generator: torch.Generator) -> tuple[list[float | None], Tensor]:
    """One random irregular kernel an image, as in DIV2KRK (setting 2)."""
    return [None], Degradation.setting2(scale).kernels(1, generator)


def random_isotropic(scale: int, generator: torch.Generator) -> tuple[list[float | None], Tensor]:
    """One random isotropic kernel an image, as in training (setting 1)."""
    return [None], Degradation.setting1(scale).kernels(1, generator)


PROTOCOLS: dict[str, Protocol] = {"gaussian8": gaussian8, "irregular": irregular, "random": random_isotropic}


@dataclass(frozen=True)
class Degraded:
    """One sharp image under one kernel.

    Attributes:
        image: name of the image, its path below the set's folder.
        kernel_index: which of the image's kernels, from 0.
        sigma: of an isotropic kernel, HR pixels; otherwise None.
        hr: (H, W, 3) uint8 RGB, H and W multiples of the scale.
        lr: (H/s, W/s, 3) uint8 RGB.
        kernel: (k, k) float32, sum 1.
    """

    image: str
    kernel_index: int
    sigma: float | None
    hr: np.ndarray
    lr: np.ndarray
    kernel: np.ndarray


@dataclass(frozen=True)
class DegradedSet:
    """Images of one test set, degraded when they are asked for.

    Args:
        name: for tables and folders.
        images: pairs of path and name.
        scale: downsampling factor, 2, 3 or 4.
        protocol: which kernels each image gets.
        seed: of the random kernels and noise; each image's draw depends on it and on the image's
            place in ``images`` alone.
        noise: standard deviation of Gaussian noise on the LR image in [0, 1] units: an 8-bit level is 1/255.
    """

    name: str
    images: tuple[tuple[Path, str], ...]
    scale: int
    protocol: Protocol
    seed: int = 0
    noise: float = 0.0

    @classmethod
    def from_folder(cls, folder: Path | str, scale: int, protocol: str | Protocol = "gaussian8",
                    limit: int | None = None, name: str | None = None) -> DegradedSet:
        """All images below ``folder``, or the first ``limit``, under a protocol or the name of one of ``PROTOCOLS``.

        The set is called ``name``, by default as its folder.

        Raises:
            DanFastError: no such protocol or scale, or no images there.
        """
        if isinstance(protocol, str):
            if protocol not in PROTOCOLS:
                raise DanFastError(f"protocol={protocol!r}: expected one of {', '.join(PROTOCOLS)}")
            protocol = PROTOCOLS[protocol]
        folder = Path(folder)
        return cls(name or folder.resolve().name, images_below([folder])[:limit], scale, protocol)

    def __post_init__(self) -> None:
        if self.scale not in GAUSSIAN8_SIGMA:
            raise DanFastError(f"scale={self.scale!r}: expected one of {', '.join(map(str, GAUSSIAN8_SIGMA))}")

    @property
    def kernels_per_image(self) -> int:
        return len(self.protocol(self.scale, self._generator(0))[0])

    def __len__(self) -> int:
        """Number of images times kernels."""
        return len(self.images) * self.kernels_per_image

    def __iter__(self) -> Iterator[Degraded]:
        return self.cases()

    def cases(self, on_skip: Callable[[str], None] | None = None, part: tuple[int, int] = (0, 1)
              ) -> Iterator[Degraded]:
        """Every image under each of its kernels, made one at a time.

        Args:
            part: (i, n): only the i-th of every n images.
            on_skip: called with a message for an image that is unreadable or smaller than its
                kernel, which is then left out; without it such an image raises ImageError.
        """
        for index, (path, name) in enumerate(self.images):
            if index % part[1] != part[0]:
                continue
            generator = self._generator(index)
            sigmas, kernels = self.protocol(self.scale, generator)
            try:
                hr = self._read(path, kernels.shape[-1])
            except ImageError as error:
                if on_skip is None:
                    raise
                on_skip(str(error))
                continue
            for kernel_index, (sigma, kernel) in enumerate(zip(sigmas, kernels, strict=True)):
                lr = degrade_image(hr, kernel, self.scale, self.noise, generator)
                yield Degraded(name, kernel_index, sigma, hr, lr, kernel.numpy())

    def check_output_names(self) -> None:
        """Raises DanFastError if two images would be written under one name."""
        seen: dict[str, Path] = {}
        for path, name in self.images:
            stem = Path(name).with_suffix("").as_posix()
            if stem in seen:
                raise DanFastError(f"{seen[stem]} and {path} would both be written as {stem}.png: "
                                   "rename one, or take one at a time")
            seen[stem] = path

    def _generator(self, index: int) -> torch.Generator:
        # Far apart, so that image 1 of seed 0 is not image 0 of seed 1.
        return torch.Generator().manual_seed(self.seed * 1_000_003 + index)

    def _read(self, path: Path, kernel_size: int) -> np.ndarray:
        """The image in 8 bit, cut at the bottom and right to a multiple of the scale."""
        rgb = to_8_bits(read_image(path).visible().rgb)
        cropped = crop_to_multiple(rgb, self.scale)
        if min(cropped.shape[:2]) < kernel_size:
            raise ImageError(f"{path} has {rgb.shape[1]}x{rgb.shape[0]} pixels: "
                             f"a {kernel_size}x{kernel_size} kernel needs at least {kernel_size} on each side")
        return cropped


def images_below(roots: Iterable[Path]) -> tuple[tuple[Path, str], ...]:
    """Every image in files and folders, with its name: the path below its folder.

    Raises:
        ImageError: a root does not exist or holds no image.
    """
    found = []
    for root in roots:
        for path in find_images([root]):
            found.append((path, path.relative_to(root).as_posix() if root.is_dir() else path.name))
    return tuple(found)


def image_sets(folders: Iterable[Path]) -> list[Path]:
    """The folders that are test sets: each one given, or its sub-folders where it holds only those.

    Raises:
        ImageError: a folder does not exist or holds no image.
    """
    sets: list[Path] = []
    for folder in folders:
        below = find_images([folder])
        inside = any(path.parent == folder for path in below)
        if inside or folder.is_file():
            sets.append(folder)
        else:
            sets += sorted({folder / path.relative_to(folder).parts[0] for path in below})
    return sets


def output_name(case: Degraded, kernels: int) -> str:
    """The image's name without suffix, and the kernel's index where it has several."""
    stem = Path(case.image).with_suffix("").as_posix()
    return stem if kernels == 1 else f"{stem}_{case.kernel_index}"
