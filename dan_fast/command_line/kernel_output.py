"""The two files in which commands write a blur kernel: a picture to look at and its numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import ImageError
from ..evaluation.pictures import kernel_picture
from ..files import write_npy
from ..image_files import write_image


def kernel_files(stem: Path) -> list[Path]:
    """The paths that ``write_kernel`` writes: ``stem`` with ``.png`` and ``.npy`` appended."""
    return [stem.with_name(stem.name + suffix) for suffix in (".png", ".npy")]


def write_kernel(stem: Path, kernel: np.ndarray) -> None:
    """Write ``kernel`` (k, k) to ``kernel_files(stem)``.

    Raises:
        ImageError: a file cannot be written.
    """
    picture, numbers = kernel_files(stem)
    write_image(picture, kernel_picture(kernel))
    try:
        write_npy(numbers, kernel)
    except OSError as error:
        raise ImageError(f"{numbers}: cannot be written: {error.strerror}") from error
