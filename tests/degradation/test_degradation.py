import math
from fractions import Fraction

import cv2
import pytest
import torch
from safetensors.torch import load_file
from support.networks import tiny_config
from support.parity import degradation_case

from dan_fast.blur_kernels.pca import FIT_COUNT
from dan_fast.degradation import (
    PCAEncoder,
    bicubic_resize,
    blur,
    dirac_kernel,
    gaussian_kernels,
    random_irregular_kernels,
    random_isotropic_kernels,
)
from dan_fast.degradation.eight_bits import round_8bit
from dan_fast.degradation.pipeline import Degradation
from dan_fast.model import DAN
from dan_fast.ops import blur_downsample
from dan_fast.training.presets import PRESETS


@pytest.fixture(params=["0", "1", "2"])
def parity(request, shared):
    tensors = load_file(shared / "parity" / "degradation.safetensors")
    prefix = f"{request.param}."
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def close(a, b):
    return (a - b).abs().max().item() < 1e-5


def test_an_image_is_degraded_as_published():
    case = degradation_case()
    separate = bicubic_resize(blur(case["hr"], case["kernel"]), Fraction(1, 3))
    for lr in (separate, blur_downsample(case["hr"], case["kernel"], 3)):
        assert close(lr, case["lr"]) and close(round_8bit(lr), case["lr_8bit"])


def test_parity_with_the_published_degradation(parity):
    scale = int(parity["scale"])
    blurred = blur(parity["hr"], parity["kernel"])
    assert close(blurred, parity["blurred"])
    lr = bicubic_resize(parity["blurred"], Fraction(1, scale))
    assert close(lr, parity["lr"])
    assert close(round_8bit(lr), parity["lr_8bit"])
    assert close(bicubic_resize(parity["lr"], scale), parity["bicubic_up"])


def test_gaussian_kernels_are_gaussian():
    kernel = gaussian_kernels(torch.tensor([1.7], dtype=torch.float64), 21)[0]
    axis = torch.arange(-10, 11, dtype=torch.float64)
    line = torch.exp(-axis**2 / (2 * 1.7**2))
    expected = line[:, None] * line
    torch.testing.assert_close(kernel, expected / expected.sum())


@pytest.mark.parametrize("size", [1, 2, 11, 20, 31])
def test_kernels_sum_to_one_and_are_centred(size):
    generator = torch.Generator().manual_seed(1)
    for kernels in (random_isotropic_kernels(5, size, (0.2, 4), generator),
                    random_irregular_kernels(5, size, (0.6, 5), generator=generator),
                    gaussian_kernels(torch.full((5,), 1e-3), size)):
        assert kernels.shape == (5, size, size) and (kernels >= 0).all()
        torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(5))
    # A vanishing sigma leaves the pixel that blurring keeps in place.
    torch.testing.assert_close(kernels[0], dirac_kernel(size))


def test_anisotropic_axes_and_angle():
    sigma = torch.tensor([[3.0, 1.0]], dtype=torch.float64)
    axis = torch.arange(31) - 15.0
    for angle in (0.0, 0.7, math.pi / 2):
        kernel = gaussian_kernels(sigma, 31, torch.tensor([angle], dtype=torch.float64))[0]
        covariance = [[(kernel * a * b).sum().item() for a in (axis[None], axis[:, None])]
                      for b in (axis[None], axis[:, None])]
        c, s = math.cos(angle), math.sin(angle)
        assert covariance[0][0] == pytest.approx(9 * c * c + s * s, rel=1e-3)
        assert covariance[0][1] == pytest.approx(8 * c * s, abs=2e-3)


def test_blur_of_a_dirac_changes_nothing():
    image = torch.rand(2, 3, 12, 9)
    for size in (1, 2, 7, 8):
        torch.testing.assert_close(blur(image, dirac_kernel(size).expand(2, -1, -1)), image)


def test_blur_is_correlation_and_each_image_has_its_own_kernel():
    image, kernel = torch.rand(2, 3, 20, 17), torch.rand(2, 5, 5)
    out = blur(image, kernel)
    for i in range(2):
        want = cv2.filter2D(image[i].permute(1, 2, 0).numpy(), -1, kernel[i].numpy(), borderType=cv2.BORDER_REFLECT_101)
        torch.testing.assert_close(out[i], torch.from_numpy(want).permute(2, 0, 1), rtol=1e-4, atol=1e-5)


def test_blur_says_what_does_not_fit():
    with pytest.raises(ValueError, match="8x8"):
        blur(torch.rand(1, 3, 8, 8), torch.rand(1, 21, 21))
    with pytest.raises(ValueError, match="do not fit"):
        blur(torch.rand(2, 3, 8, 8), torch.rand(1, 3, 3))


@pytest.mark.parametrize("scale", [0.25, Fraction(1, 3), 0.5, 1, Fraction(2, 3), 1.5, 2, 3, 4, Fraction(7, 5)])
def test_resize_shapes_constants_and_gradients(scale):
    image = torch.full((1, 2, 30, 21), 0.3, dtype=torch.float64, requires_grad=True)
    out = bicubic_resize(image, scale)
    assert out.shape == (1, 2, math.ceil(30 * Fraction(scale)), math.ceil(21 * Fraction(scale)))
    torch.testing.assert_close(out, torch.full_like(out, 0.3))
    out.sum().backward()
    assert image.grad.isfinite().all()


def test_resize_of_a_tiny_image():
    assert bicubic_resize(torch.rand(1, 1, 1, 2), Fraction(1, 4)).shape == (1, 1, 1, 1)
    assert bicubic_resize(torch.rand(3, 1), 4).shape == (12, 4)


def test_resize_says_what_is_wrong():
    with pytest.raises(ValueError, match="uint8"):
        bicubic_resize(torch.zeros(4, 4, dtype=torch.uint8), 2)
    with pytest.raises(ValueError, match="scale"):
        bicubic_resize(torch.zeros(4, 4), 0)


def test_pca_finds_the_components():
    kernels = random_isotropic_kernels(500, 9, (0.5, 3), torch.Generator().manual_seed(0)).double()
    flat = kernels.flatten(1)
    u = torch.linalg.svd((flat - flat.mean(0)).T, full_matrices=False).U[:, :4]
    matrix = PCAEncoder.fit(kernels, 4).matrix.double()
    torch.testing.assert_close((u.T @ matrix).abs(), torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-5)


def test_pca_codes_describe_the_kernels():
    encoder = PCAEncoder.isotropic(4, 21, 10)
    kernels = random_isotropic_kernels(20, 21, (0.5, 4), torch.Generator().manual_seed(5))
    decoded = encoder.decode(encoder(kernels))
    torch.testing.assert_close(decoded.sum((1, 2)), torch.ones(20))
    assert (decoded - kernels).abs().sum((1, 2)).max() < 0.18
    # The lost part is the same for all kernels: differences between them are kept.
    torch.testing.assert_close(decoded - decoded[:1], kernels - kernels[:1], rtol=0, atol=1e-4)
    torch.testing.assert_close(encoder.matrix.T @ encoder.matrix, torch.eye(10), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="code_length"):
        PCAEncoder.fit(kernels, 21)


def test_settings_have_a_basis_of_their_own():
    """It is fitted once, and each network has its own copy."""
    for degradation in (Degradation(2, 5, (0.2, 2.0)), Degradation(2, 5, (0.2, 3.0)),
                        Degradation(2, 5, (0.6, 2.0), irregular=True)):
        encoder = degradation.encoder(4)
        expected = PCAEncoder.fit(degradation.kernels(FIT_COUNT, torch.Generator().manual_seed(0)), 4)
        assert torch.equal(encoder.matrix, expected.matrix)
        model = DAN(tiny_config(scale=2, kernel_size=5, code_length=4), encoder.matrix)
        model.encoder.zero_()
        assert degradation.encoder(4) is encoder and torch.equal(encoder.matrix, expected.matrix)
        assert degradation.encoder(3).matrix.shape == (25, 3)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_make_their_degradation(name):
    preset = PRESETS[name]
    size = preset.training.patch * preset.config.scale
    lr, kernel = preset.degradation(torch.rand(2, 3, size, size), torch.Generator().manual_seed(3))
    assert lr.shape == (2, 3, preset.training.patch, preset.training.patch)
    assert kernel.shape == (2, preset.config.kernel_size, preset.config.kernel_size)
    assert close(lr * 255, (lr * 255).round()) and lr.min() >= 0 and lr.max() <= 1


def test_the_same_seed_gives_the_same_degradation():
    degradation = Degradation(2, 11, (0.6, 5), irregular=True, noise=0.1)
    hr = torch.rand(3, 3, 32, 24)
    first, again, other = (degradation(hr, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    quiet = Degradation(2, 11, (0.6, 5), irregular=True)(hr, torch.Generator().manual_seed(1))
    assert torch.equal(quiet[1], first[1]) and 0.01 < (quiet[0] - first[0]).std() < 0.1
