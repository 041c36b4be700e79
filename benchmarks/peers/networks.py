"""Networks that ncnn runs on the CPU, and the way in which SRMDNF is told the blur.

SRMDNF (Zhang et al., CVPR 2018) takes 18 channels: the image, and 15 constant planes with the kernel's coordinates in a
PCA basis of 15x15 kernels. The program in its wheel knows no kernel: it always fills in one vector, which is compiled
into it, ``degradation_vector``. That vector is the projection of the kernel that does not blur, 1 in its middle and 0
elsewhere, by the basis in ``srmd_pca_matlab.mat`` of KAIR (MIT), ``P`` (15, 225), to the last digit. So the code of any
kernel is ``P @ k``, with the kernel's columns one below the other as in MATLAB; nothing is subtracted, and kernels with
more than 15x15 taps are cut and divided by their sum. The image is RGB in [0, 1], as for the other networks here.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from dan_fast.blur_kernels.matlab_files import read_matrices
from dan_fast.blur_kernels.padding import cropped, padded
from dan_fast.errors import DanFastError

from .fetching import Model

SRMD_SIZE, SRMD_CODE = 15, 15  # taps on a side of SRMD's kernels; numbers of a code


class NcnnNetwork:
    """A network that ncnn runs, on as many threads as PyTorch has.

    Raises:
        DanFastError: ncnn cannot read the files.
    """

    def __init__(self, ncnn: ModuleType, model: Model) -> None:
        self._ncnn, self._model = ncnn, model
        self._load(torch.get_num_threads())

    def _load(self, threads: int) -> None:
        self._net = self._ncnn.Net()
        self._net.opt.use_vulkan_compute = False
        self._net.opt.num_threads = self._threads = threads
        for read, path in ((self._net.load_param, self._model.param), (self._net.load_model, self._model.weights)):
            if read(str(path)) != 0:
                raise DanFastError(f"{path}: ncnn cannot read it; delete it to fetch it again")

    def __call__(self, image: np.ndarray, *planes: float) -> np.ndarray:
        """Upscale ``image`` (h, w, 3) uint8 RGB, given constant further channels: (h*s, w*s, 3) uint8.

        Raises:
            DanFastError: the network fails, or its output is not finite.
        """
        height, width = image.shape[:2]
        channels = np.empty((3 + len(planes), height, width), np.float32)
        np.divide(image.transpose(2, 0, 1), 255, out=channels[:3], dtype=np.float32)
        channels[3:] = np.array(planes, np.float32).reshape(-1, 1, 1)
        if self._threads != torch.get_num_threads():
            self._load(torch.get_num_threads())  # ncnn prepares convolutions for a number of threads
        # A Mat is a view of the array unless it is cloned, and the output is a view of what the extractor owns.
        into: Any = self._ncnn.Mat(channels).clone()
        extractor = self._net.create_extractor()
        extractor.input(self._net.input_names()[0], into)
        code, output = extractor.extract("output")
        result = np.array(output)
        if code != 0 or not np.isfinite(result).all():
            raise DanFastError(f"ncnn failed on an image of {width}x{height} pixels (code {code})")
        return np.rint(255 * result.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)


def read_basis(path: Path) -> np.ndarray:
    """SRMD's PCA basis (15, 225), the variable ``P`` of ``srmd_pca_matlab.mat``.

    Raises:
        DanFastError: the file cannot be read or holds something else.
    """
    try:
        basis = read_matrices(path, "P", 1 << 20)[0]
    except DanFastError:
        raise
    except Exception as error:  # a damaged file can raise any
        raise DanFastError(f"{path}: cannot be read: {error}") from None
    if basis.shape != (SRMD_CODE, SRMD_SIZE**2):
        raise DanFastError(f"{path}: P has shape {basis.shape}, expected {(SRMD_CODE, SRMD_SIZE**2)}")
    return basis.astype(np.float32)


def srmd_code(kernel: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """What SRMD is told of ``kernel`` (k, k): its code (15,), from the basis (15, 225)."""
    fitting = (cropped if len(kernel) > SRMD_SIZE else padded)(np.asarray(kernel), SRMD_SIZE)
    return basis @ (fitting / fitting.sum()).astype(np.float32).reshape(-1, order="F")
