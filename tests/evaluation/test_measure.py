"""Measuring an upscaler: rows, bicubic, and measures without the shift of a kernel."""

from types import SimpleNamespace

import numpy as np
import pytest
from support.image_sets import bicubic_upscaler, write_random, write_set

from dan_fast.errors import DanFastError
from dan_fast.evaluation.degraded_set import DegradedSet, fixed_kernels
from dan_fast.evaluation.measure import bicubic, mean, measure
from dan_fast.files import SAMPLES
from dan_fast.image_files import read_image, write_image


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "set")


def test_rows(folder):
    degraded = DegradedSet.from_folder(folder, 4)
    seen = []
    rows = measure(degraded, bicubic_upscaler(4), on_measured=lambda case, result: seen.append(case.image))
    assert len(rows) == len(seen) == 16
    for row in rows:
        assert row.set == "set"
        assert (row.psnr_y, row.ssim_y) == (row.bicubic_psnr_y, row.bicubic_ssim_y)
        assert (row.psnr_rgb, row.ssim_rgb) == (row.bicubic_psnr_rgb, row.bicubic_ssim_rgb)
        assert 0 < row.kernel_error < 2
        assert row.seconds > 0
    # A wider blur loses more.
    by_kernel = [mean([row for row in rows if row.kernel == k], "psnr_y") for k in range(8)]
    assert by_kernel == sorted(by_kernel, reverse=True)


def test_refuses_an_upscaler_of_another_scale(folder):
    with pytest.raises(DanFastError, match="shape"):
        measure(DegradedSet.from_folder(folder, 4), bicubic_upscaler(3))


def test_bicubic_on_set5(shared):
    degraded = DegradedSet.from_folder(shared / "data" / "Set5", 4)
    rows = measure(degraded, bicubic_upscaler(4))
    # MATLAB's filter (a = -0.5), as in the papers; OpenCV's and PyTorch's (a = -0.75) give 26.05.
    assert mean(rows, "psnr_y") == pytest.approx(25.87, abs=0.005)


def test_measures_without_the_shift_of_the_kernel(folder):
    down, right = np.mgrid[-12:13, -12:13]
    kernels = np.stack([np.exp(-((down - y) ** 2 + (right - x) ** 2) / 3) for y, x in ((0, 0), (3, -2.5), (0, 4))])
    kernels = (kernels / kernels.sum((1, 2), keepdims=True)).astype(np.float32)
    for path in folder.iterdir():
        smooth = read_image(SAMPLES / "dog.png").rgb[100:196, 100 + 50 * int(path.stem):196 + 50 * int(path.stem)]
        write_image(path, np.ascontiguousarray(smooth))
    degraded = DegradedSet.from_folder(folder, 4, fixed_kernels(kernels))

    def upscale(lr):
        return SimpleNamespace(image=bicubic(lr, 4), kernel=kernels[0])

    centre, diagonal, right = (lambda rows: [[row for row in rows if row.kernel == k] for k in range(3)])(
        measure(degraded, upscale))
    for row in centre:
        assert (row.shift_down, row.shift_right) == (0, 0)
        for name in ("bicubic_psnr_y", "psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "kernel_error"):
            assert getattr(row, f"aligned_{name}") == getattr(row, name)
    for rows, shift in ((diagonal, (3, -2.5)), (right, (0, 4))):
        for row, aligned in zip(rows, centre, strict=True):
            assert (row.shift_down, row.shift_right) == pytest.approx(shift, abs=1e-3)
            assert row.psnr_y < aligned.psnr_y - 3 and row.kernel_error > 1
            assert row.aligned_psnr_y == row.aligned_bicubic_psnr_y == pytest.approx(aligned.psnr_y, abs=1)
            assert row.aligned_ssim_rgb == row.aligned_bicubic_ssim_rgb > row.ssim_rgb + 0.05
            assert row.aligned_kernel_error < 0.05


def test_a_shift_of_an_image_that_hardly_exceeds_ssims_window(tmp_path):
    write_random(tmp_path / "small" / "a.png", 28, 28)
    kernel = np.zeros((1, 25, 25), np.float32)
    kernel[0, 12, 22] = 1
    row, = measure(DegradedSet.from_folder(tmp_path / "small", 4, fixed_kernels(kernel)), bicubic_upscaler(4))
    assert row.shift_right == 10 and row.aligned_psnr_y > 0
