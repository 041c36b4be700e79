"""Periodic validation: the figure to follow, and pictures to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from ..degraded_set import DegradedSet
from ..evaluation import bicubic, mean_psnr_y
from ..inference import Upscaler
from ..metrics import kernel_error
from ..model import DAN
from ..pictures import kernel_picture, side_by_side

SAMPLES = 3


class FolderValidation:
    """Mean PSNR on Y over a folder's images, degraded by the protocol of the setting.

    Raises:
        DanFastError: the folder holds no image.
    """

    def __init__(self, folder: Path, scale: int, irregular: bool) -> None:
        self.degraded = DegradedSet.from_folder(folder, scale, "irregular" if irregular else "gaussian8")

    def __call__(self, model: DAN, step: int, writer: SummaryWriter) -> float:
        """PSNR in dB; writes sample pictures and their kernels' errors for TensorBoard."""
        upscaler = Upscaler(model)
        errors = []
        # Cases spread over the set, so that the samples show different images and kernels.
        stride = max(1, len(self.degraded) // SAMPLES)
        for index, case in enumerate(self.degraded):
            if index % stride or index // stride >= SAMPLES:
                continue
            result = upscaler(case.lr)
            picture = side_by_side([bicubic(case.lr, self.degraded.scale), result.image, case.hr,
                                    kernel_picture(result.kernel), kernel_picture(case.kernel)],
                                   ["bicubic", "DAN", "sharp", "estimated", "true kernel"])
            writer.add_image(f"sample/{case.image}", picture, step, dataformats="HWC")
            errors.append(kernel_error(result.kernel, case.kernel))
        writer.add_scalar("validation/kernel_error", float(np.mean(errors)), step)
        return mean_psnr_y(self.degraded, upscaler)
