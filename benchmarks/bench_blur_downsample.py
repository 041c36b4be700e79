"""``blur_downsample`` on the CPU and on a GPU against the best that PyTorch and OpenCV do, and beside its floor.

    pytest benchmarks/bench_blur_downsample.py --benchmark-json=out.json       # the cases that the results quote
    pytest benchmarks/bench_blur_downsample.py -m gpu                          # those on a GPU
    DAN_FAST_BENCH=all pytest benchmarks/bench_blur_downsample.py -k torch     # every size, scale and kernel

``extra_info`` holds the ratio of the medians, both timed in turn (above 1: ``blur_downsample`` is faster), and as
``floor_s`` the time that the composed filter's multiply-adds, (k + 4 * scale - 1)^2 per pixel, take at the rate of a
large matrix product. On the CPU a fast FIR needs fewer, so it may come below.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache, partial

import cv2
import dan_fast_kernels
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dan_fast.degradation import gaussian_kernels, random_irregular_kernels
from dan_fast.ops import blur_downsample
from dan_fast.ops.resize import resize_taps

SIZES = {"1x256x256": (1, 256, 256), "16x256x256": (16, 256, 256), "64x256x256": (64, 256, 256),
         "1x1356x2040": (1, 1356, 2040)}
# size, scale, k, kind of kernel
QUOTED = [(size, scale, k, kind) for size in ("16x256x256", "1x1356x2040") for scale, k in ((4, 21), (2, 11))
          for kind in ("irregular", "isotropic")]
ALL = [(size, scale, k, kind) for size in SIZES for scale in (2, 3, 4) for k in (11, 21, 31)
       for kind in ("irregular", "isotropic")]

cases = pytest.mark.parametrize("size, scale, k, kind", ALL if os.environ.get("DAN_FAST_BENCH") == "all" else QUOTED)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> str:
    """The device that the compiled operator runs on; skips where the extension lacks it."""
    if dan_fast_kernels.EXTENSION is None:
        pytest.skip(f"the extension is not built: {dan_fast_kernels.WHY_NOT}")
    if request.param == "cuda" and not torch._C._dispatch_has_kernel_for_dispatch_key(
            "dan_fast::blur_downsample_cpp", "CUDA"):
        pytest.skip("the extension was built without CUDA")
    return request.param


@lru_cache(maxsize=8)
def resize_matrix(length: int, scale: int, device: str) -> Tensor:
    """Returns the bicubic filter of one axis as a matrix (length / scale, length)."""
    weights, indices = resize_taps(length, Fraction(1, scale))
    matrix = torch.zeros(length // scale, length, dtype=torch.float64).scatter_add_(1, indices, weights)
    return matrix.float().to(device)


def blur_per_image(padded: Tensor, kernel: Tensor) -> Tensor:
    """Blurs with one group per image, whose channels stand in the batch's place."""
    return F.conv2d(padded.transpose(0, 1), kernel[:, None], groups=len(kernel)).transpose(0, 1)


def blur_per_plane(padded: Tensor, kernel: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Blurs with one group per image and channel."""
    batch, channels, height, width = padded.shape
    planes = padded.reshape(1, batch * channels, height, width).contiguous(memory_format=memory_format)
    out = F.conv2d(planes, kernel.repeat_interleave(channels, 0)[:, None], groups=batch * channels)
    return out.contiguous().view(batch, channels, *out.shape[2:])


BLURS = (blur_per_image, partial(blur_per_plane, memory_format=torch.contiguous_format),
         partial(blur_per_plane, memory_format=torch.channels_last))


def blur_then_resize(hr: Tensor, kernel: Tensor, scale: int, blur: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Blurs every pixel with a grouped convolution, then resizes with one matrix product per axis."""
    before, after = kernel.shape[1] // 2, (kernel.shape[1] - 1) // 2
    blurred = blur(F.pad(hr, (before, after, before, after), mode="reflect"), kernel)
    down, across = (resize_matrix(length, scale, str(hr.device)) for length in hr.shape[2:])
    return down @ (blurred @ across.T)


def best_in_torch(hr: Tensor, kernel: Tensor, scale: int) -> Callable[[], Tensor]:
    """Returns ``blur_then_resize`` in the layout that is fastest here for these arguments."""
    def seconds(run: Callable[[], Tensor]) -> float:
        run()
        best = float("inf")
        for _ in range(2):
            if hr.is_cuda:
                torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            if hr.is_cuda:
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
        return best

    with torch.inference_mode():
        return min((partial(blur_then_resize, hr, kernel, scale, blur) for blur in BLURS), key=seconds)


def opencv(images: list[np.ndarray], kernels: list[np.ndarray], scale: int) -> list[np.ndarray]:
    """Blurs and shrinks images with OpenCV. For speed only: INTER_AREA averages boxes, which is another resize."""
    out = []
    for image, kernel in zip(images, kernels, strict=True):
        blurred = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        height, width = image.shape[0] // scale, image.shape[1] // scale
        out.append(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_AREA))
    return out


def draw(size: str, scale: int, k: int, kind: str, device: str) -> tuple[Tensor, Tensor]:
    batch, height, width = SIZES[size]
    hr = torch.rand(batch, 3, height // scale * scale, width // scale * scale, device=device)
    if kind == "isotropic":
        return hr, gaussian_kernels(torch.rand(batch, device=device) * 3 + 1, k)
    return hr, random_irregular_kernels(batch, k, (0.6, 5.0), device=device)


def facts(hr: Tensor, scale: int, k: int, kind: str, against: str) -> dict[str, object]:
    return {"shape": list(hr.shape), "scale": scale, "kernel_size": k, "kernels": kind, "against": against,
            "dtype": str(hr.dtype), "device": hr.device.type}


@cases
def test_against_torch(compare, floor, size, scale, k, kind, device):
    hr, kernel = draw(size, scale, k, kind, device)
    reference = best_in_torch(hr, kernel, scale)
    # Timed with what torch does by itself, which on a GPU is less precise than float32.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        assert (blur_downsample(hr, kernel, scale) - reference()).abs().max() <= 1e-5
    compare(lambda: blur_downsample(hr, kernel, scale), reference, rounds=15 if hr.numel() < 2**22 else 3,
            floor_s=floor(device, hr.dtype, hr.numel() // scale**2 * (k + 4 * scale - 1)**2, 0),
            **facts(hr, scale, k, kind, "grouped conv2d, then matrix-form bicubic"))


@pytest.mark.parametrize("scale, k", [(4, 21), (2, 11)])
@pytest.mark.parametrize("device", ["cpu"], indirect=True)
def test_against_opencv(compare, scale, k, device):
    cv2.setNumThreads(torch.get_num_threads())
    hr, kernel = draw("16x256x256", scale, k, "irregular", device)
    images = [np.ascontiguousarray(image) for image in hr.permute(0, 2, 3, 1).numpy()]
    compare(lambda: blur_downsample(hr, kernel, scale), lambda: opencv(images, list(kernel.numpy()), scale),
            **facts(hr, scale, k, "irregular", "OpenCV filter2D, then INTER_AREA"))
