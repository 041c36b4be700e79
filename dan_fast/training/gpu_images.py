"""Keeps a whole packed data set on the GPU as 8-bit pixels; patches are cut, turned and flipped there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .data import PatchDataset

# The share of the GPU's free memory that the images may take before training; the rest is for the network.
SHARE = 0.5


def fit_on_gpu(dataset: PatchDataset, device: torch.device) -> bool:
    """Whether ``device`` is a GPU and all images are packed or decoded and fit its free memory."""
    packed = [image for image in dataset.images if not isinstance(image, Path)]
    if device.type != "cuda" or len(packed) < len(dataset.images):
        return False
    return sum(int(np.prod(image.shape)) for image in packed) <= SHARE * torch.cuda.mem_get_info(device)[0]


class GPUImages:
    """All images of ``dataset`` on ``device``; gives the same patches as the data set, without workers and copies."""

    def __init__(self, dataset: PatchDataset, device: torch.device) -> None:
        self._dataset, self._device = dataset, device
        count, size = len(dataset.images), dataset.size
        shapes = [dataset.mirrored(number).shape[:2] for number in range(count)]
        self._starts = np.concatenate([[0], np.cumsum([height * width for height, width in shapes])])
        self._widths = [width for _, width in shapes]
        self._pixels = torch.empty(int(self._starts[-1]), 3, dtype=torch.uint8, device=device)
        for number in range(count):
            pixels = np.ascontiguousarray(dataset.mirrored(number)).reshape(-1, 3)
            # A copy, as the packed file is mapped read-only, for which torch warns.
            self._pixels[self._starts[number]:self._starts[number + 1]] = torch.from_numpy(pixels.copy()).to(device)
        # By turns + 4 * flip: the row and the column, in the part that is cut out, of each pixel of the patch.
        grid = np.indices((size, size))
        turned = [[np.rot90(axis, turns) for axis in grid] for turns in range(4)]
        flipped = [[axis[:, ::-1] for axis in axes] for axes in turned]
        table = torch.from_numpy(np.array(turned + flipped)).to(device)
        self._rows, self._columns = table[:, 0], table[:, 1]

    def batch(self, numbers: Iterable[int]) -> Tensor:
        """Return the patches ``numbers`` of the stream, (B, channels, size, size) uint8 on the device."""
        corners = []
        for place in map(self._dataset.place, numbers):
            width = self._widths[place.image]
            corners.append((int(self._starts[place.image]) + place.top * width + place.left, width,
                            place.turns + 4 * place.flip))
        host = torch.tensor(corners)
        if self._device.type == "cuda":
            host = host.pin_memory()
        first, width, way = host.to(self._device, non_blocking=True).unbind(1)
        pixels = self._rows[way] * width[:, None, None] + self._columns[way] + first[:, None, None]
        patches = self._pixels[pixels]
        if self._dataset.channels == 1:
            patches = patches.sum(3, keepdim=True, dtype=torch.float64).div(3).round().to(torch.uint8)
        return patches.permute(0, 3, 1, 2)

    def batches(self, numbers: Iterable[int], batch: int) -> Iterator[Tensor]:
        """Yield the patches ``numbers`` in batches of ``batch``."""
        waiting: list[int] = []
        for number in numbers:
            waiting.append(number)
            if len(waiting) == batch:
                yield self.batch(waiting)
                waiting = []
