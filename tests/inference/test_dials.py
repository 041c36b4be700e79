"""``strength`` and ``blur`` of an upscaler."""

import numpy as np
import pytest
import torch
from support.networks import tiny_config
from support.photos import photo

from dan_fast.blur_kernels.gaussian import gaussian_kernels
from dan_fast.blur_kernels.width import scaled
from dan_fast.errors import DanFastError
from dan_fast.inference import Upscaler
from dan_fast.model import DAN
from dan_fast.ops.resize import bicubic_resize


def gaussian(sigma):
    return gaussian_kernels(torch.full((1, 2), sigma), 21)[0]


def as_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("options", [{}, {"tile": 16}, {"tile": 16, "halo": 3}, {"ensemble": True},
                                     {"kernel_from": "crop"}], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (37, 50), (150, 33)])
def test_strength_blends_with_bicubic_before_rounding(tiny_model, options, size):
    image = as_tensor(photo(*size))
    full = Upscaler(tiny_model, **options)(image)
    bicubic = bicubic_resize(image, 4)
    for strength in (0, 0.3, 1):
        found = Upscaler(tiny_model, strength=strength, **options)(image)
        # The full result was clamped before, the blend is clamped afterwards: they differ where bicubic rings.
        inside = (full.image > 0) & (full.image < 1)
        expected = (strength * full.image + (1 - strength) * bicubic).clamp(0, 1)
        assert torch.allclose(found.image[inside], expected[inside], atol=2e-6)
        assert np.array_equal(found.kernel, full.kernel)
    assert torch.equal(found.image, full.image)  # strength 1


def test_strength_of_all_kinds_of_images(tiny_model):
    upscaler = Upscaler(tiny_model, strength=0)
    for image in (photo(20, 30), photo(20, 30, 1), photo(20, 30, dtype=np.uint16)):
        largest = np.iinfo(image.dtype).max
        pixels = torch.from_numpy(np.atleast_3d(image).astype(np.float64) / largest).permute(2, 0, 1)
        expected = (bicubic_resize(pixels, 4).clamp(0, 1) * largest).permute(1, 2, 0).numpy().squeeze()
        assert abs(upscaler(image).image - expected).max() <= 0.51 + 1e-6 * largest
    both = torch.rand(2, 3, 9, 11)
    assert torch.allclose(upscaler(both).image, bicubic_resize(both, 4).clamp(0, 1), atol=1e-6)


def test_a_blend_is_moved_with_a_known_kernel_that_is_not_centred(tiny_model):
    kernel = np.roll(gaussian(1.5).numpy(), 3, 1)
    image = photo(30, 30)
    found = Upscaler(tiny_model, strength=0)(image, kernel=kernel).image
    expected = Upscaler(tiny_model, strength=0)(image).image
    assert np.array_equal(found[:, 3:], expected[:, :-3])


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("options", [{}, {"tile": 16}, {"kernel_from": "crop"}, {"iterations": 2}], ids=str)
def test_blur_scales_the_kernel_of_the_last_pass(version, options):
    """As two calls: one that estimates with one iteration less, one with the scaled estimate as the known kernel."""
    torch.manual_seed(0)
    model = DAN(tiny_config(version=version, **({"groups": 0, "blocks": 2} if version == "v1" else {}))).eval()
    image = photo(150, 40)
    iterations = options.get("iterations", model.config.iterations)
    less = {**options, "iterations": iterations - 1}
    estimate = Upscaler(model, **less).estimate_kernel(image)
    for blur in (0.6, 1.5):
        upscaler = Upscaler(model, blur=blur, **options)
        kernel = scaled(torch.from_numpy(estimate)[None], blur)[0]
        expected = Upscaler(model, **options)(image, kernel=kernel).image
        # known_kernel moves a kernel whose centre of mass is off by a tenth of a pixel or more; blur moves nothing.
        if Upscaler(model)._known(kernel).shift == (0, 0):
            assert abs(upscaler(image).image.astype(int) - expected).max() <= 1
        found = upscaler(image)
        assert np.allclose(found.kernel, estimate, atol=1e-6)
        assert np.array_equal(found.image, upscaler(image, wants_kernel=False).image)
    assert np.array_equal(Upscaler(model, blur=1, **options)(image).image, Upscaler(model, **options)(image).image)


def test_blur_of_a_known_kernel_and_of_a_batch(tiny_model):
    image, kernel = photo(30, 20), gaussian(1.2)
    wider = Upscaler(tiny_model)(image, kernel=scaled(kernel[None], 1.5)[0]).image
    found = Upscaler(tiny_model, blur=1.5)(image, kernel=kernel)
    assert np.array_equal(found.image, wider) and np.allclose(found.kernel, kernel, atol=1e-7)
    both = torch.rand(2, 3, 20, 24)
    upscaler = Upscaler(tiny_model, blur=0.7)
    together = upscaler(both)
    for n in range(2):
        assert torch.allclose(together.image[n], upscaler(both[n]).image, atol=1e-5)
    assert together.kernel.shape == (2, 21, 21)


def test_blur_with_the_ensemble(tiny_model):
    image = torch.rand(3, 24, 24)
    mirrored = image.flip(2)
    upscaler = Upscaler(tiny_model, blur=0.7, ensemble=True)
    assert torch.allclose(upscaler(image).image, upscaler(mirrored).image.flip(2), atol=1e-5)
    assert not torch.equal(upscaler(image).image, Upscaler(tiny_model, ensemble=True)(image).image)


@pytest.mark.parametrize("option, value", [("strength", -0.1), ("strength", 1.1), ("strength", float("nan")),
                                           ("strength", "1"), ("strength", True), ("blur", 0), ("blur", 0.2),
                                           ("blur", 5), ("blur", float("inf")), ("blur", None)])
def test_impossible_dials(tiny_model, option, value):
    with pytest.raises(DanFastError, match=f"{option}=.*expected a number from"):
        Upscaler(tiny_model, **{option: value})


def test_blur_needs_an_estimate(tiny_model):
    with pytest.raises(DanFastError, match=r"blur=0\.8 with iterations=1: .*at least 2"):
        Upscaler(tiny_model, blur=0.8, iterations=1)
