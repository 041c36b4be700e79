"""Floating point images in [0, 1], as scikit-image and node tools have them; errors for other ranges and types."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dan_fast
from dan_fast.errors import DanFastError


@pytest.fixture
def upscaler(tiny_model) -> dan_fast.Upscaler:
    return dan_fast.Upscaler(tiny_model)


def image(dtype=np.float32, shape=(13, 17, 3)) -> np.ndarray:
    return np.random.default_rng(0).random(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(13, 17, 3), (13, 17)])
def test_the_result_has_the_type_and_range_of_the_image(upscaler, dtype, shape):
    given = image(dtype, shape)
    before = given.copy()
    found = upscaler(given).image
    assert isinstance(found, np.ndarray) and found.dtype == dtype
    assert found.shape == (13 * 4, 17 * 4, *shape[2:]) and found.min() >= 0 and found.max() <= 1
    assert np.array_equal(given, before)
    # Not rounded, and the same as for a tensor of the same numbers.
    tensor = torch.from_numpy(given.astype(np.float32))
    tensor = tensor[None] if len(shape) == 2 else tensor.permute(2, 0, 1)
    expected = upscaler(tensor).image
    expected = expected[0] if len(shape) == 2 else expected.permute(1, 2, 0)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3 if dtype == np.float16 else 1e-6)
    assert dtype == np.float16 or len(np.unique(found)) > 1000


def test_agrees_with_8_bits(upscaler):
    given = (image() * 255).round().astype(np.uint8)
    found, expected = upscaler(given / np.float32(255)).image, upscaler(given).image
    assert np.abs(found * 255 - expected).max() <= 0.5 + 1e-3


def test_any_layout(upscaler):
    given = image()
    expected = upscaler(given).image
    read_only = given.copy()
    read_only.flags.writeable = False
    layouts = [np.asfortranarray(given), given[::-1].copy()[::-1], given.astype(">f4"), read_only,
               np.repeat(given, 2, 1)[:, ::2]]
    for layout in layouts:
        found = upscaler(layout).image
        assert np.array_equal(found, expected) and found.dtype == np.float32


def test_batches_and_kernels(upscaler):
    images = [image(), image() / 2]
    for one, result in zip(images, upscaler.batch(images), strict=True):
        assert result.image.dtype == np.float32
        np.testing.assert_allclose(result.image, upscaler(one).image, atol=1e-5)
    with pytest.raises(DanFastError, match="differ"):
        upscaler.batch([image(), image(np.float64)])
    assert upscaler.estimate_kernel(image()).shape == (21, 21)


def as_array(values) -> np.ndarray:
    return values.astype(np.float32)


def as_tensor(values) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)


@pytest.mark.parametrize("kind", [as_array, as_tensor])
@pytest.mark.parametrize("change, says", [
    (lambda x: x * 255, r"from 0\.\d+ to 2\d\d.*expected floating point in \[0, 1\]: divide it by"),
    (lambda x: x - 0.5, r"from -0\.\d+ to"), (lambda x: np.where(x > 0.9, np.nan, x), "not finite"),
    (lambda x: np.where(x > 0.9, np.inf, x), "not finite"), (lambda x: np.where(x < 0.1, -np.inf, x), "not finite"),
])
def test_other_ranges_are_named(upscaler, kind, change, says):
    with pytest.raises(DanFastError, match=says):
        upscaler(kind(change(image())))
    with pytest.raises(DanFastError, match=says):
        upscaler.estimate_kernel(kind(change(image())))


@pytest.mark.parametrize("kind", [as_array, as_tensor])
def test_rounding_errors_are_within_the_range(upscaler, kind):
    assert upscaler(kind(image() * 1.0005)).image.max() <= 1


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int8, bool, np.complex64, np.longdouble])
def test_other_types_are_named(upscaler, dtype):
    with pytest.raises(DanFastError, match=rf"image is {np.dtype(dtype)}, expected uint8, uint16, or float16"):
        upscaler(np.zeros((4, 4, 3), dtype))


@pytest.mark.parametrize("dtype, cure", [(torch.float32, False), (torch.float64, False), (torch.bfloat16, True),
                                         (torch.float16, True)])
def test_output_that_is_not_finite(tiny_model, dtype, cure):
    """The error recommends another type only where it helps."""
    with torch.no_grad():
        tiny_model.Restorer.fusion.bias.fill_(float("nan"))
    with pytest.raises(DanFastError, match="not finite: the weights are broken") as error:
        dan_fast.Upscaler(tiny_model, dtype=dtype)(image())
    assert ("use float32" in str(error.value)) == cure
