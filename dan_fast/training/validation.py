"""Periodic validation: the figure to follow, and pictures to look at."""

from __future__ import annotations

import logging
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from ..degraded_set import Degraded, DegradedSet
from ..errors import DanFastError
from ..evaluation import Upscaled, comparison, mean, measure
from ..inference import Upscaler
from ..model import DAN

SAMPLES = 3
log = logging.getLogger("dan_fast.train")


class FolderValidation:
    """Mean PSNR on Y over a folder's images, degraded by the test protocol of the setting.

    Raises:
        DanFastError: the folder holds no image.
    """

    def __init__(self, folder: Path, scale: int, irregular: bool) -> None:
        self.degraded = DegradedSet.from_folder(folder, scale, "irregular" if irregular else "gaussian8")
        # Images spread over the set, and another kernel for each.
        stride = max(1, len(self.degraded.images) // SAMPLES)
        self.samples = {(name, i % self.degraded.kernels_per_image)
                        for i, (_, name) in enumerate(self.degraded.images[::stride][:SAMPLES])}

    def __call__(self, model: DAN, step: int, writer: SummaryWriter) -> float:
        """PSNR in dB; writes the kernels' error and sample pictures for TensorBoard."""

        def show(case: Degraded, result: Upscaled) -> None:
            if (case.image, case.kernel_index) in self.samples:
                picture = comparison(case, result, self.degraded.scale)
                writer.add_image(f"sample/{case.image}", picture, step, dataformats="HWC")

        rows = measure(self.degraded, Upscaler(model), progress=True, on_measured=show,
                       on_skip=lambda why: log.warning("validation skipped %s", why))
        if not rows:
            raise DanFastError(f"no image in {self.degraded.name} can be validated on")
        writer.add_scalar("validation/kernel_error", mean(rows, "kernel_error"), step)
        return mean(rows, "psnr_y")
