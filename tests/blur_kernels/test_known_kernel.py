"""Upscaling with a known kernel that is not centred: the result is aligned with the sharp image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dan_fast
from dan_fast.blur_kernels.padding import cropped
from dan_fast.blur_kernels.shift import Shift, centred, moved
from dan_fast.degradation.degrade import degrade_image
from dan_fast.errors import DanFastError
from dan_fast.evaluation.metrics import psnr
from dan_fast.image_files import read_image
from dan_fast.inference import Upscaler

SAMPLES = Path(dan_fast.__file__).parent / "samples"
SIDE = 160


@pytest.fixture(scope="module")
def sharp():
    return read_image(SAMPLES / "dog.png").rgb[100:100 + SIDE, 100:100 + SIDE]


@pytest.fixture(scope="module")
def upscaler():
    return Upscaler(dan_fast.load("default"))


def gaussian(down=0.0, right=0.0, sigma=2.2, size=21):
    rows, columns = np.mgrid[:size, :size] - size // 2
    kernel = np.exp(-((rows - down) ** 2 + (columns - right) ** 2) / 2 / sigma**2)
    return (kernel / kernel.sum()).astype(np.float32)


def blurred(sharp, kernel):
    return degrade_image(sharp, torch.from_numpy(kernel), 4)


def quality(result, sharp):
    return psnr(result.image, sharp, crop=4, y_channel=True)


@pytest.fixture(scope="module")
def best(upscaler, sharp):
    """PSNR with the same kernel centred, dB."""
    return quality(upscaler(blurred(sharp, gaussian()), kernel=gaussian()), sharp)


@pytest.mark.parametrize("shift", [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, -5), (3, 0), (-4, 0), (0.5, 0.5),
                                   (1.5, -2.25), (-4.6, 3.3), (5, 5)])
def test_a_shift_costs_nothing(upscaler, sharp, best, shift):
    kernel = gaussian(*shift)
    lr = blurred(sharp, kernel)
    result = upscaler(lr, kernel=kernel)
    # If the result were not moved back: 2 dB less for one pixel, 11 dB for four.
    assert quality(result, sharp) > best - 0.15
    assert np.allclose(result.kernel, kernel, rtol=1e-5, atol=0)  # as it was given, not centred
    # A user could do the same with centred().
    kernel, moved_by = centred(kernel)
    alone = upscaler(lr, kernel=cropped(kernel, 21) / cropped(kernel, 21).sum())
    image = moved(torch.from_numpy(alone.image).permute(2, 0, 1)[None], moved_by)[0].permute(1, 2, 0).numpy()
    assert abs(image.astype(int) - result.image).max() <= 1


@pytest.mark.parametrize("size", [20, 22, 41, 42])
def test_even_and_larger_kernels(upscaler, sharp, best, size):
    # The middle of an even kernel is its pixel size // 2.
    for shift in ((-0.5, -0.5), (3, -2)):
        kernel = gaussian(*shift, size=size)
        result = upscaler(blurred(sharp, kernel), kernel=kernel)
        assert quality(result, sharp) > best - 0.15
        assert result.kernel.shape == (max(size, 21),) * 2 and result.kernel.sum() == pytest.approx(1, abs=1e-5)


def test_the_error_of_one_that_does_not_fit_names_both_sizes(upscaler, sharp):
    with pytest.raises(DanFastError, match="31x31 pixels, this network takes at most 21x21"):
        upscaler(blurred(sharp, gaussian()), kernel=gaussian(sigma=5, size=31))


@pytest.mark.parametrize("options", [{"ensemble": True}, {"tile": 20, "halo": 28}, {"kernel_from": "crop"}])
def test_with_every_option(upscaler, sharp, options):
    kernel = gaussian(-2.5, 4)
    lr = blurred(sharp, kernel)
    found = Upscaler(upscaler.model, **options)(lr, kernel=kernel)
    expected = upscaler(lr, kernel=kernel)
    assert quality(found, sharp) > quality(expected, sharp) - 0.02
    assert np.array_equal(found.kernel, expected.kernel)


def test_every_kind_of_image(upscaler, sharp):
    kernel = gaussian(1, -3.5)
    lr = blurred(sharp, kernel)
    eight = upscaler(lr, kernel=kernel).image
    sixteen = upscaler(lr.astype(np.uint16) * 257, kernel=kernel).image
    assert sixteen.dtype == np.uint16 and abs(sixteen / 257 - eight).max() <= 1.5
    pil = upscaler(Image.fromarray(lr), kernel=kernel).image
    assert np.array_equal(np.array(pil), eight)
    tensor = torch.from_numpy(lr).permute(2, 0, 1).float() / 255
    batch = upscaler(torch.stack([tensor, tensor.flip(1)]), kernel=kernel)
    assert batch.kernel.shape == (2, 21, 21)
    assert abs(batch.image[0].permute(1, 2, 0).numpy() * 255 - eight).max() <= 1.5
    assert batch.image.min() >= 0 and batch.image.max() <= 1
    assert torch.allclose(batch.image[1], upscaler(tensor.flip(1), kernel=kernel).image, atol=1e-4)
    grey = upscaler(np.ascontiguousarray(lr[..., 1]), kernel=kernel).image
    assert grey.shape == (SIDE, SIDE)
    assert psnr(*(np.repeat(image[..., None], 3, 2) for image in (grey, sharp[..., 1])), crop=8) > 30


def test_a_centred_kernel_moves_nothing(upscaler, sharp):
    kernel = gaussian(0.08, -0.08)
    lr = torch.from_numpy(blurred(sharp, kernel)).permute(2, 0, 1)[None].float() / 255
    model = upscaler.model
    with torch.no_grad():
        code = model.encode(torch.from_numpy(kernel)[None])
        expected = model.refine(lr, model.Restorer(lr, code), code).clamp(0, 1)
    assert (upscaler(lr, kernel=kernel).image - expected).abs().max() < 1e-4
    assert (moved(expected, Shift(0.08, -0.08)) - expected).abs().max() > 0.01


def test_without_wanting_a_kernel(upscaler, sharp):
    assert upscaler(blurred(sharp, gaussian(0, 2)), kernel=gaussian(0, 2), wants_kernel=False).kernel is None


def test_images_smaller_than_the_shift(upscaler):
    result = upscaler(np.full((1, 2, 3), 90, np.uint8), kernel=gaussian(-6, 5, sigma=1.0))
    assert result.image.shape == (4, 8, 3)
    assert Shift(-6, 5) == centred(gaussian(-6, 5, sigma=1.0)).shift
