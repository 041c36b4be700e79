"""Periodic validation: the figure to follow, and pictures to look at."""

from __future__ import annotations

import logging
from pathlib import Path
from statistics import fmean

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..degraded_set import DegradedSet
from ..errors import DanFastError
from ..evaluation import comparison
from ..inference import Upscaler
from ..metrics import kernel_error, psnr
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
        upscaler = Upscaler(model)
        psnrs, errors = [], []
        cases = self.degraded.cases(lambda why: log.warning("validation skipped %s", why))
        for case in tqdm(cases, "validation", len(self.degraded), leave=None):
            result = upscaler(case.lr)
            psnrs.append(psnr(result.image, case.hr, crop=self.degraded.scale, y_channel=True))
            errors.append(kernel_error(result.kernel, case.kernel))
            if (case.image, case.kernel_index) in self.samples:
                picture = comparison(case, result, self.degraded.scale)
                writer.add_image(f"sample/{case.image}", picture, step, dataformats="HWC")
        if not psnrs:
            raise DanFastError(f"no image in {self.degraded.name} can be validated on")
        writer.add_scalar("validation/kernel_error", fmean(errors), step)
        return fmean(psnrs)
