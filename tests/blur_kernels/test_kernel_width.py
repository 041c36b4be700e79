"""Kernels made wider and narrower."""

import pytest
import torch

from dan_fast.blur_kernels.gaussian import gaussian_kernels, random_irregular_kernels
from dan_fast.blur_kernels.shape import kernel_shape
from dan_fast.blur_kernels.width import scaled


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 2])
@pytest.mark.parametrize("sigma", [1.0, 1.6, 2.4])
def test_a_gaussian_gets_its_width_times_the_factor(sigma, factor):
    kernel = gaussian_kernels(torch.tensor([[sigma, 0.9 * sigma]], dtype=torch.float64), 31, torch.tensor([0.4]))
    shape, before = kernel_shape(scaled(kernel, factor)[0].numpy()), kernel_shape(kernel[0].numpy())
    # The narrower, the less of a Gaussian is in its samples: a cubic through them is wider.
    bound = 0.01 if min(sigma, factor * sigma) > 1.2 else 0.05 if factor * sigma > 0.7 else 0.3
    assert shape.major == pytest.approx(factor * before.major, rel=bound)
    assert shape.minor == pytest.approx(factor * before.minor, rel=bound)


@pytest.mark.parametrize("size", [11, 21, 20])
@pytest.mark.parametrize("factor", [0.25, 0.9, 1, 1.1, 4])
def test_sums_stay_and_nothing_becomes_negative(size, factor):
    kernels = random_irregular_kernels(6, size, (0.3, 3), generator=torch.Generator().manual_seed(0)).float()
    kernels[0] = 0
    kernels[0, size // 2, size // 2] = 1  # one tap
    found = scaled(kernels, factor)
    assert found.shape == kernels.shape and found.dtype == torch.float32
    assert torch.allclose(found.sum((1, 2)), kernels.sum((1, 2)), rtol=1e-5) and found.min() >= 0
    # Each stays where it is, one by one as together.
    assert torch.allclose(scaled(kernels[2:3], factor)[0], found[2])
    peak = found[0].flatten().argmax().item()
    assert divmod(peak, size) == (size // 2, size // 2)


def test_a_factor_of_1_is_the_kernel_itself():
    kernels = torch.rand(2, 5, 5)
    assert scaled(kernels, 1) is kernels


def test_wider_and_narrower_again_is_almost_the_same():
    kernel = gaussian_kernels(torch.tensor([[1.5, 1.5]], dtype=torch.float64), 21)
    assert (scaled(scaled(kernel, 1.5), 1 / 1.5) - kernel).abs().sum() < 0.03
