"""Random HR patches from images.

They depend on the images, the seed and their numbers alone, not on the number of workers or the device.
"""

from __future__ import annotations

import gc
import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ..errors import ImageError
from ..image_files import find_images, read_image, to_8_bits
from .jpeg_pack import DecodedImage, decoded_images, is_jpeg_pack
from .pack import PackedImage, is_pack, packed_images

CACHE_BYTES = 1 << 30  # of decoded images, per worker
log = logging.getLogger("dan_fast.train")


class Place(NamedTuple):
    """Where a patch comes from.

    Attributes:
        image: its number.
        top, left: the patch's corner in the image, which is mirrored first where it is small.
        turns: by 90 degrees.
        flip: 1: mirrored left to right, after turning.
    """

    image: int
    top: int
    left: int
    turns: int
    flip: int


class PatchDataset(Dataset):
    """An endless stream of patches; patch i depends on ``seed`` and i alone.

    Unreadable files are logged and skipped.

    Args:
        paths: image files, folders (searched recursively), or files that ``dan-fast pack`` wrote. A folder and its
            packed file give the same patches if every image in the folder can be read. A packed file of JPEGs, which is
            decoded here as a whole, gives the patches of a folder that holds these JPEGs.
        size: side of the patches in pixels. Smaller images are mirrored until they are large enough.
        channels: 3 (RGB) or 1 (the mean of RGB).
        seed: each seed gives another stream.

    Raises:
        ImageError: a path does not exist, or no image can be read.
    """

    def __init__(self, paths: Sequence[Path | str], size: int, *, channels: int = 3, seed: int = 0) -> None:
        self.images: list[Path | PackedImage | DecodedImage] = []
        for path in map(Path, paths):
            self.images += (packed_images(path) if is_pack(path) else decoded_images(path) if is_jpeg_pack(path)
                            else find_images([path]))
        self.size, self.channels, self.seed = size, channels, seed
        self._broken: set[int] = set()
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._cached_bytes = 0

    def __getitem__(self, index: int) -> Tensor:
        """Return patch ``index``, (channels, size, size) uint8, randomly cropped, turned and flipped."""
        place = self.place(index)
        patch = self.mirrored(place.image)[place.top:place.top + self.size, place.left:place.left + self.size]
        patch = np.rot90(patch, place.turns)
        if place.flip:
            patch = patch[:, ::-1]
        if self.channels == 1:
            patch = patch.mean(2, keepdims=True).round().astype(np.uint8)
        return torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))

    def place(self, index: int) -> Place:
        """Return where patch ``index`` comes from."""
        rng = np.random.default_rng((self.seed, index))
        number, (height, width) = self._draw_image(rng)
        top, left = (int(rng.integers(max(length, self.size) - self.size + 1)) for length in (height, width))
        return Place(number, top, left, int(rng.integers(4)), int(rng.integers(2)))

    def mirrored(self, number: int) -> np.ndarray:
        """Return image ``number``, (H, W, 3) uint8, mirrored at its end until each side is at least ``size``."""
        image = self._read(number)
        missing = [(0, max(0, self.size - length)) for length in image.shape[:2]]
        return np.pad(image, [*missing, (0, 0)], mode="symmetric") if max(missing)[1] else image

    def _draw_image(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        """Draw a readable image; return its number, height and width."""
        while len(self._broken) < len(self.images):
            number = int(rng.integers(len(self.images)))
            if number in self._broken:
                continue
            try:
                return number, self._read(number).shape[:2]
            except ImageError as error:
                self._broken.add(number)
                log.warning("skipped: %s", error)
        raise ImageError(f"none of the {len(self.images)} images can be read, the first is {self.images[0]}")

    def _read(self, number: int) -> np.ndarray:
        image = self.images[number]
        if not isinstance(image, Path):
            return image.pixels()
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        pixels = to_8_bits(read_image(image).visible().rgb)
        self._cache[number] = pixels
        self._cached_bytes += pixels.nbytes
        while self._cached_bytes > CACHE_BYTES and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return pixels


class StreamPart(Sampler):
    """Yields the numbers of the patches of ``steps``, or of one part of each step.

    The stream is random already, so nothing is shuffled, and it can begin at any step.

    Args:
        batch: patches per step, in all parts together.
        part: (i, n): the i-th of n equal parts.
    """

    def __init__(self, steps: range, batch: int, part: tuple[int, int] = (0, 1)) -> None:
        self._steps, self._batch, self._index = steps, batch, part[0]
        self.own = batch // part[1]

    def __iter__(self) -> Iterator[int]:
        for step in self._steps:
            first = step * self._batch + self._index * self.own
            yield from range(first, first + self.own)

    def __len__(self) -> int:
        return len(self._steps) * self.own


def patch_loader(dataset: PatchDataset, stream: StreamPart, workers: int) -> DataLoader:
    """Yields batches (batch, channels, size, size) uint8, read by ``workers`` processes, or by this one if 0."""
    return DataLoader(dataset, stream.own, sampler=stream, num_workers=workers,
                      pin_memory=torch.cuda.is_available(), persistent_workers=workers > 0)


def on_device(batches: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield ``batches`` on ``device``; on a GPU each batch is copied while the one before is used."""
    if device.type != "cuda":
        yield from batches
        return
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    # A CUDA graph that nobody can reach any more must not be found by a forked worker: to free it there is fatal.
    gc.collect()
    ready = None
    for batch in batches:
        if ready is not None:
            current.wait_stream(stream)
        with torch.cuda.stream(stream):
            coming = batch.to(device, non_blocking=True)
        if ready is not None:
            ready.record_stream(current)
            yield ready
        ready = coming
    if ready is not None:
        current.wait_stream(stream)
        ready.record_stream(current)
        yield ready
