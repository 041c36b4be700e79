"""Test sets: sharp images blurred and shrunk by known kernels, the same in every run."""

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

# Takes the scale and an image's own generator. Returns sigmas, None for a kernel without a single sigma, and kernels
# (n, k, k) of the image.
Protocol = Callable[[int, torch.Generator], tuple[list[float | None], Tensor]]


def isotropic(*sigmas: float) -> Protocol:
    """A protocol: the same isotropic Gaussian kernels, 21x21, with these sigmas for every image."""
    return lambda scale, generator: (list(sigmas), gaussian_kernels(torch.tensor(sigmas), KERNEL_SIZE))


def fixed_kernels(kernels: np.ndarray) -> Protocol:
    """A protocol: the same ``kernels`` (n, k, k), each with sum 1, for every image."""
    return lambda scale, generator: ([None] * len(kernels), torch.from_numpy(kernels))


def gaussian8(scale: int, generator: torch.Generator) -> tuple[list[float | None], Tensor]:
    """A protocol: the 8 isotropic kernels of the tests of setting 1 (v1, section 4.1)."""
    sigmas = np.linspace(*GAUSSIAN8_SIGMA[scale], 8).tolist()
    return isotropic(*sigmas)(scale, generator)


def irregular(scale: int, generator: torch.Generator) -> tuple[list[float | None], Tensor]:
    """A protocol: one random irregular kernel per image, as in DIV2KRK (setting 2)."""
    return [None], Degradation.setting2(scale).kernels(1, generator)


def random_isotropic(scale: int, generator: torch.Generator) -> tuple[list[float | None], Tensor]:
    """A protocol: one random isotropic kernel per image, as in training (setting 1)."""
    return [None], Degradation.setting1(scale).kernels(1, generator)


PROTOCOLS: dict[str, Protocol] = {"gaussian8": gaussian8, "irregular": irregular, "random": random_isotropic}


@dataclass(frozen=True)
class Degraded:
    """One sharp image and a low-resolution one, which is the sharp one degraded by one kernel.

    Attributes:
        image: name of the image, its path below the set's folder.
        kernel_index: number of the kernel among those of the image, from 0.
        sigma: standard deviation of an isotropic kernel, HR pixels; None for other kernels.
        hr: (H, W, 3) uint8 RGB, H and W multiples of the scale.
        lr: (H/s, W/s, 3) uint8 RGB.
        kernel: (k, k) float32, sum 1; None if it is not known.
        registered: the two images fit onto each other, whatever the kernel's shift: they were given as a pair, and the
            grids of their pixels may lie otherwise than those of our own degradation.
    """

    image: str
    kernel_index: int
    sigma: float | None
    hr: np.ndarray
    lr: np.ndarray
    kernel: np.ndarray | None
    registered: bool = False


@dataclass(frozen=True)
class DegradedSet:
    """Images of one test set; they are degraded while it is iterated over.

    Args:
        name: name of the set in tables and folders.
        images: pairs of path and name.
        scale: downsampling factor, 2, 3 or 4.
        protocol: chooses the kernels of each image.
        seed: seed of the random kernels and noise; those of an image depend only on the seed and on the image's place
            in ``images``.
        noise: standard deviation of Gaussian noise on the LR image in [0, 1] units: an 8-bit level is 1/255.
    """

    name: str
    images: tuple[tuple[Path, str], ...]
    scale: int
    protocol: Protocol
    seed: int = 0
    noise: float = 0.0

    # A kernel's shift moves the degraded image.
    registered = False

    @classmethod
    def from_folder(cls, folder: Path | str, scale: int, protocol: str | Protocol = "gaussian8",
                    limit: int | None = None, name: str | None = None) -> DegradedSet:
        """The set of all images below ``folder``.

        Args:
            protocol: a protocol, or the name of one of ``PROTOCOLS``.
            limit: take only the first ``limit`` images.
            name: name of the set; None: the folder's.

        Raises:
            DanFastError: the protocol or scale does not exist, or the folder holds no image.
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
        """Yield every image under each of its kernels; only one is in memory.

        Args:
            on_skip: is called with a message for each image that is unreadable or smaller than its kernel, and the
                image is left out; None: such an image raises ImageError.
            part: (i, n): only the images whose number is i modulo n.
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
        """Raise DanFastError if two images would be written under one name."""
        seen: dict[str, Path] = {}
        for path, name in self.images:
            stem = Path(name).with_suffix("").as_posix()
            if stem in seen:
                raise DanFastError(f"{seen[stem]} and {path} would both be written as {stem}.png: "
                                   "rename one, or degrade one at a time")
            seen[stem] = path

    def _generator(self, index: int) -> torch.Generator:
        # Seeds are spread out, so that image 1 of seed 0 differs from image 0 of seed 1.
        return torch.Generator().manual_seed(self.seed * 1_000_003 + index)

    def _read(self, path: Path, kernel_size: int) -> np.ndarray:
        """The image in 8 bit, cropped to a multiple of the scale."""
        rgb = to_8_bits(read_image(path).visible().rgb)
        cropped = crop_to_multiple(rgb, self.scale)
        if min(cropped.shape[:2]) < kernel_size:
            raise ImageError(f"{path} has {rgb.shape[1]}x{rgb.shape[0]} pixels: "
                             f"a {kernel_size}x{kernel_size} kernel needs at least {kernel_size} on each side")
        return cropped


def images_below(roots: Iterable[Path]) -> tuple[tuple[Path, str], ...]:
    """Every image among ``roots``, files or folders, with its name: the path below its folder.

    Raises:
        ImageError: a root does not exist or holds no image.
    """
    found = []
    for root in roots:
        for path in find_images([root]):
            found.append((path, path.relative_to(root).as_posix() if root.is_dir() else path.name))
    return tuple(found)


def image_sets(folders: Iterable[Path]) -> list[Path]:
    """The test sets among ``folders``: a folder that holds images is one; of any other each sub-folder is one.

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
    """Name for the files of ``case``: the image's without suffix, and the kernel's number if it has ``kernels`` > 1."""
    stem = Path(case.image).with_suffix("").as_posix()
    return stem if kernels == 1 else f"{stem}_{case.kernel_index}"
