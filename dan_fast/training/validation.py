"""Periodic validation: the figure to follow, and pictures to look at."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ..errors import DanFastError
from ..evaluation.degraded_set import Degraded, DegradedSet
from ..evaluation.measure import comparison, upscale_cases
from ..evaluation.pictures import kernel_picture
from ..inference import Upscaler
from ..model import DAN
from .processes import Processes

SAMPLES = 3
log = logging.getLogger("dan_fast.train")


class Scores(NamedTuple):
    """PSNR on Y in dB, the kernels' error (sum of absolute differences), pictures HxWx3 uint8 by name."""

    psnr: float
    kernel_error: float
    pictures: dict[str, np.ndarray]


class FolderValidation:
    """Means over a folder's images, degraded by the test protocol of the setting.

    Raises:
        DanFastError: the folder holds no image.
    """

    def __init__(self, folder: Path, scale: int, irregular: bool) -> None:
        self.degraded = DegradedSet.from_folder(folder, scale, "irregular" if irregular else "gaussian8")

    def __call__(self, model: DAN, processes: Processes, must_give_up: Callable[[], bool] = lambda: False
                 ) -> Scores | None:
        """Every process measures its share of the images and gets the scores of all; pictures are of its own.

        Returns:
            None if ``must_give_up``, asked before every image, said so in a process.
        """
        upscaler = Upscaler(model)
        # Images spread over the set, and another kernel for each.
        own = self.degraded.images[processes.rank::processes.count]
        stride = max(1, len(own) // SAMPLES)
        samples = {(name, i % self.degraded.kernels_per_image) for i, (_, name) in enumerate(own[::stride][:SAMPLES])}
        pictures = {}
        sums = torch.zeros(4, dtype=torch.float64, device=model.encoder.device)

        def cases() -> Iterator[Degraded]:
            own_cases = self.degraded.cases(lambda why: log.warning("validation skipped %s", why),
                                            part=(processes.rank, processes.count))
            for case in tqdm(own_cases, "validation", len(own) * self.degraded.kernels_per_image, leave=None,
                             disable=not processes.main):
                if must_give_up():
                    sums[3] = 1
                    return
                yield case

        for upscaled in upscale_cases(cases(), lambda case: upscaler(case.lr), self.degraded.scale):
            case, result = upscaled.case, upscaled.result
            sums += sums.new_tensor((upscaled.psnr_y, upscaled.kernel_error, 1, 0))
            if (case.image, case.kernel_index) in samples:
                pictures[f"sample/{case.image}"] = comparison(case, result, self.degraded.scale)
                pictures[f"kernel/{case.image}"] = kernel_picture(result.kernel)
        processes.sum(sums)
        total_psnr, total_error, count, given_up = sums.tolist()
        if given_up:
            return None
        if not count:
            raise DanFastError(f"no image in {self.degraded.name} can be validated on")
        return Scores(total_psnr / count, total_error / count, pictures)
