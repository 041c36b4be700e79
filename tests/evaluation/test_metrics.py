import math

import numpy as np
import pytest
from safetensors.numpy import load_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from dan_fast.errors import DanFastError
from dan_fast.evaluation.metrics import kernel_error, kernel_psnr, psnr, ssim


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    a = rng.integers(0, 256, (40, 33, 3), np.uint8)
    noise = rng.normal(0, 20, a.shape)
    return a, np.clip(a + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", ["y", "rgb"])
def test_published_figures(shared, channels):
    cases = load_file(shared / "parity" / "degradation.safetensors")
    a, b = cases["metric.a"], cases["metric.b"]
    y = channels == "y"
    assert psnr(a, b, crop=4, y_channel=y) == pytest.approx(cases[f"metric.psnr_{channels}_crop4"].item(), abs=1e-6)
    assert ssim(a, b, crop=4, y_channel=y) == pytest.approx(cases[f"metric.ssim_{channels}_crop4"].item(), abs=1e-7)


def test_agrees_with_skimage(pair):
    a, b = pair
    assert psnr(a, b, crop=2) == pytest.approx(peak_signal_noise_ratio(a[2:-2, 2:-2], b[2:-2, 2:-2]), abs=1e-9)
    theirs = structural_similarity(a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, win_size=11,
                                   use_sample_covariance=False, data_range=255)
    assert ssim(a, b) == pytest.approx(theirs, abs=1e-9)


def test_y_of_black_and_white_spans_219_levels():
    black, white = np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 255, np.uint8)
    assert psnr(black, white) == pytest.approx(0)
    assert psnr(black, white, y_channel=True) == pytest.approx(20 * math.log10(255 / 219))


@pytest.mark.parametrize("y_channel", [False, True])
def test_equal_images(pair, y_channel):
    a, _ = pair
    assert psnr(a, a, y_channel=y_channel) == math.inf
    assert ssim(a, a, y_channel=y_channel) == pytest.approx(1)


@pytest.mark.parametrize("y_channel", [False, True])
def test_symmetric(pair, y_channel):
    a, b = pair
    assert psnr(a, b, y_channel=y_channel) == psnr(b, a, y_channel=y_channel)
    assert ssim(a, b, y_channel=y_channel) == pytest.approx(ssim(b, a, y_channel=y_channel), abs=1e-12)


def test_crop_ignores_the_border(pair):
    a, b = pair
    spoiled = b.copy()
    spoiled[:3], spoiled[:, -3:] = 0, 255
    assert psnr(a, spoiled, crop=3) == psnr(a, b, crop=3)
    assert ssim(a, spoiled, crop=3) == ssim(a, b, crop=3)


@pytest.mark.parametrize("measure", [psnr, ssim])
@pytest.mark.parametrize(("change", "message"), [
    (lambda a: a.astype(np.float32), "float32"),
    (lambda a: a[..., 0], r"\(40, 33\)"),
    (lambda a: a[:-1], r"\(39, 33, 3\)"),
])
def test_refuses_other_arrays(pair, measure, change, message):
    a, b = pair
    with pytest.raises(DanFastError, match=message):
        measure(a, change(b))


def test_refuses_impossible_crops(pair):
    with pytest.raises(DanFastError, match="crop=17"):
        psnr(*pair, crop=17)
    with pytest.raises(DanFastError, match="crop=-1"):
        psnr(*pair, crop=-1)
    with pytest.raises(DanFastError, match="11x11"):
        ssim(*pair, crop=12)


def one_at(size: int, row: int, column: int) -> np.ndarray:
    kernel = np.zeros((size, size), np.float32)
    kernel[row, column] = 1
    return kernel


def test_kernel_measures():
    here, there = one_at(5, 2, 2), one_at(5, 0, 1)
    assert kernel_error(here, here) == 0
    assert kernel_psnr(here, here) == math.inf
    assert kernel_error(here, there) == 2
    assert kernel_psnr(here, there) == pytest.approx(10 * math.log10(25 / 2))


@pytest.mark.parametrize(("small", "large"), [(3, 7), (4, 7), (3, 8), (4, 8)])
def test_kernels_of_two_sizes_meet_at_their_centres(small, large):
    centred = one_at(small, small // 2, small // 2), one_at(large, large // 2, large // 2)
    assert kernel_error(*centred) == kernel_error(*reversed(centred)) == 0


def test_refuses_kernels_that_are_not_square():
    with pytest.raises(DanFastError, match=r"\(3, 4\)"):
        kernel_error(np.zeros((3, 4)), np.zeros((3, 3)))
    with pytest.raises(DanFastError, match=r"\(\), expected \(k, k\)"):
        kernel_error(np.zeros((3, 3)), np.array(1.0))
