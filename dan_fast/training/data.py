"""Random HR patches from a folder of images, the same whatever the number of workers."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import ImageError
from ..images import find_images, read_image, to_8_bits

CACHE_BYTES = 1 << 30
log = logging.getLogger("dan_fast.train")


class PatchDataset(Dataset):
    """Patch number i of an endless stream, determined by (seed, i) alone.

    Args:
        paths: image files or folders (searched recursively).
        size: side of the patches, pixels. Smaller images are mirrored until they are large enough.
        channels: 3 (RGB) or 1 (the mean of RGB).
        seed: another seed, another stream.

    Unreadable files are reported in the log and skipped.

    Raises:
        ImageError: a path does not exist, or there is no readable image at all.
    """

    def __init__(self, paths: Sequence[Path | str], size: int, *, channels: int = 3, seed: int = 0) -> None:
        self.files = find_images(paths)
        self.size, self.channels, self.seed = size, channels, seed
        self._broken: set[Path] = set()
        self._cache: OrderedDict[Path, np.ndarray] = OrderedDict()
        self._cached_bytes = 0

    def __getitem__(self, index: int) -> Tensor:
        """Patch ``index``: (channels, size, size) uint8, randomly cropped, flipped and turned."""
        rng = np.random.default_rng((self.seed, index))
        image = self._image(rng)
        top, left = (rng.integers(length - self.size + 1) for length in image.shape[:2])
        patch = image[top:top + self.size, left:left + self.size]
        patch = np.rot90(patch, int(rng.integers(4)))
        if rng.integers(2):
            patch = patch[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))

    def _image(self, rng: np.random.Generator) -> np.ndarray:
        """A random readable image, at least ``size`` on each side."""
        while len(self._broken) < len(self.files):
            path = self.files[rng.integers(len(self.files))]
            if path in self._broken:
                continue
            try:
                return self._read(path)
            except ImageError as error:
                self._broken.add(path)
                log.warning("skipped: %s", error)
        raise ImageError(f"none of the {len(self.files)} images can be read, the first is {self.files[0]}")

    def _read(self, path: Path) -> np.ndarray:
        if path in self._cache:
            self._cache.move_to_end(path)
            return self._cache[path]
        image = to_8_bits(read_image(path).rgb)
        if self.channels == 1:
            image = image.mean(2, keepdims=True).round().astype(np.uint8)
        missing = [(0, max(0, self.size - length)) for length in image.shape[:2]]
        image = np.pad(image, [*missing, (0, 0)], mode="symmetric")
        self._cache[path] = image
        self._cached_bytes += image.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return image


class _Range(Sampler):
    """start, start + 1, … stop - 1: the stream needs no shuffling, and may go on anywhere."""

    def __init__(self, start: int, stop: int) -> None:
        self.range = range(start, stop)

    def __iter__(self) -> Iterator[int]:
        return iter(self.range)

    def __len__(self) -> int:
        return len(self.range)


def patch_loader(dataset: PatchDataset, batch: int, first_step: int, steps: int, workers: int) -> DataLoader:
    """Batches (batch, channels, size, size) uint8 of steps ``first_step`` to ``steps - 1``."""
    return DataLoader(dataset, batch, sampler=_Range(first_step * batch, steps * batch), num_workers=workers,
                      pin_memory=torch.cuda.is_available(), persistent_workers=workers > 0)
