from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import dan_fast
from dan_fast.degradation import gaussian_kernels
from dan_fast.degradation.degrade import degrade_image
from dan_fast.errors import DanFastError, ImageError
from dan_fast.evaluation.degraded_set import PROTOCOLS, fixed_kernels, image_sets, images_below
from dan_fast.evaluation.measure import DegradedSet, bicubic, mean, measure
from dan_fast.image_files import read_image, write_image

SAMPLES = Path(dan_fast.__file__).parent / "samples"
FLAT = np.full((21, 21), 1 / 441, np.float32)


def write_random(path, height=50, width=46, seed=0):
    image = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    write_image(path, np.kron(image, np.ones((4, 4, 1), np.uint8))[:height, :width])


@pytest.fixture
def folder(tmp_path):
    for i in range(2):
        write_random(tmp_path / "set" / f"{i}.png", seed=i)
    return tmp_path / "set"


def bicubic_upscaler(scale):
    return lambda lr: SimpleNamespace(image=bicubic(lr, scale), kernel=FLAT)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("protocol", "count", "sizes"), [
    ("gaussian8", 8, {2: 21, 3: 21, 4: 21}), ("irregular", 1, {2: 11, 3: 21, 4: 31}),
    ("random", 1, {2: 21, 3: 21, 4: 21})])
def test_cases(folder, scale, protocol, count, sizes):
    degraded = DegradedSet.from_folder(folder, scale, protocol)
    cases = list(degraded)
    assert len(cases) == len(degraded) == 2 * count
    assert [case.image for case in cases[::count]] == ["0.png", "1.png"]
    for case in cases:
        assert case.kernel.shape == (sizes[scale], sizes[scale])
        assert case.kernel.dtype == np.float32
        assert case.kernel.sum() == pytest.approx(1, abs=1e-5)
        assert case.hr.dtype == case.lr.dtype == np.uint8
        assert case.hr.shape == (50 // scale * scale, 46 // scale * scale, 3)
        assert case.lr.shape == (50 // scale, 46 // scale, 3)


@pytest.mark.parametrize(("scale", "low", "high"), [(2, 0.80, 1.60), (3, 1.35, 2.40), (4, 1.80, 3.20)])
def test_gaussian8_is_the_published_one(folder, scale, low, high):
    cases = list(DegradedSet.from_folder(folder, scale, limit=1))
    assert [case.sigma for case in cases] == pytest.approx(np.linspace(low, high, 8))
    last = gaussian_kernels(torch.tensor([high]), 21)[0].numpy()
    np.testing.assert_allclose(cases[-1].kernel, last, atol=1e-7)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cases_are_the_same_every_time_and_whatever_the_limit(folder, protocol):
    everything = list(DegradedSet.from_folder(folder, 4, protocol))
    for case, other in zip(DegradedSet.from_folder(folder, 4, protocol, limit=1), everything, strict=False):
        np.testing.assert_array_equal(case.lr, other.lr)
        np.testing.assert_array_equal(case.kernel, other.kernel)
    if protocol != "gaussian8":
        assert not np.array_equal(everything[0].kernel, everything[1].kernel)


def test_degrading_agrees_with_the_published_figures(shared):
    cases = load_file(shared / "parity" / "degradation.safetensors")
    for i in range(3):
        scale = int(cases[f"{i}.scale"])
        for hr, kernel, lr in zip(cases[f"{i}.hr"], cases[f"{i}.kernel"], cases[f"{i}.lr_8bit"], strict=True):
            image = hr.permute(1, 2, 0).mul(255).round().byte()
            assert torch.allclose(image.float() / 255, hr.permute(1, 2, 0), atol=1e-6)
            expected = lr.permute(1, 2, 0).mul(255).round().byte().numpy()
            assert np.abs(degrade_image(image.numpy(), kernel, scale).astype(int) - expected).max() <= 1


def test_noise_has_the_given_deviation():
    grey = np.full((200, 200, 3), 128, np.uint8)
    kernel = gaussian_kernels(torch.tensor([2.0]), 21)[0]
    noisy = degrade_image(grey, kernel, 2, noise=10 / 255, generator=torch.Generator().manual_seed(0))
    assert noisy.std() == pytest.approx(10, rel=0.03)
    assert degrade_image(grey, kernel, 2).std() == 0


def test_unusable_images_are_refused_or_skipped(folder):
    write_random(folder / "a_small.png", 24, 20)
    (folder / "b_broken.png").write_bytes(b"no image")
    degraded = DegradedSet.from_folder(folder, 4)
    with pytest.raises(ImageError, match="a_small"):
        list(degraded)
    skipped = []
    assert len(measure(degraded, bicubic_upscaler(4), on_skip=skipped.append)) == 16
    assert ["a_small" in skipped[0], "b_broken" in skipped[1]] == [True, True]


def test_refuses_other_protocols_scales_and_empty_folders(folder, tmp_path):
    with pytest.raises(DanFastError, match="gaussian9"):
        DegradedSet.from_folder(folder, 4, "gaussian9")
    with pytest.raises(DanFastError, match="scale=5"):
        DegradedSet.from_folder(folder, 5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError):
        DegradedSet.from_folder(tmp_path / "empty", 4)


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


def test_image_sets_and_names(tmp_path):
    for name in ("both/one/x.png", "both/two/deep/x.png", "single/x.png", "single/more/y.png"):
        write_random(tmp_path / name)
    assert image_sets([tmp_path / "both", tmp_path / "single"]) == [
        tmp_path / "both" / "one", tmp_path / "both" / "two", tmp_path / "single"]
    assert [name for _, name in images_below([tmp_path / "single"])] == ["more/y.png", "x.png"]


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
