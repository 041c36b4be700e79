"""Validates a network while it is trained: mean figures, and pictures to look at."""

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
from ..image_files import read_image
from ..inference import Upscaler
from ..model import DAN
from .processes import Processes

SAMPLES = 3  # pictures per validation
log = logging.getLogger("dan_fast.train")


class Scores(NamedTuple):
    """The result of a validation.

    Attributes:
        psnr: on Y, in dB.
        kernel_error: sum of absolute differences.
        pictures: (H, W, 3) uint8 by name.
    """

    psnr: float
    kernel_error: float
    pictures: dict[str, np.ndarray]


class FolderValidation:
    """Measures a network on a folder's images, degraded as in the tests of the papers.

    Args:
        irregular: with irregular kernels (setting 2) instead of isotropic ones (setting 1).

    Raises:
        DanFastError: the folder holds no image, or ``folder`` is a file that is no image.
    """

    def __init__(self, folder: Path, scale: int, irregular: bool) -> None:
        if folder.is_file():
            read_image(folder)  # hours before the first validation would find out that it is no image
        self.degraded = DegradedSet.from_folder(folder, scale, "irregular" if irregular else "gaussian8")

    def __call__(self, model: DAN, processes: Processes, must_give_up: Callable[[], bool] = lambda: False
                 ) -> Scores | None:
        """Measure this process's share of the images; return the means over all, and pictures of its own share.

        Args:
            must_give_up: called before each image.

        Returns:
            None if ``must_give_up`` returned True in any process.

        Raises:
            DanFastError: no image can be used, or a process is gone.
        """
        upscaler = Upscaler(model)
        # The samples are spread over the set, each with another kernel.
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
