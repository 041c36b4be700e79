"""Shifts of kernels are measured, kernels centred, images moved back."""

import numpy as np
import pytest
import torch

from dan_fast.blur_kernels.known import known_kernel
from dan_fast.blur_kernels.padding import padded
from dan_fast.blur_kernels.shift import NO_SHIFT, Shift, centred, kernel_shift, moved
from dan_fast.degradation import blur, gaussian_kernels, random_irregular_kernels
from dan_fast.errors import DanFastError


def gaussian(down=0.0, right=0.0, sigma=2.2, size=21):
    rows, columns = np.mgrid[:size, :size] - size // 2
    kernel = np.exp(-((rows - down) ** 2 + (columns - right) ** 2) / 2 / sigma**2)
    return kernel / kernel.sum()


def point(row, column, size):
    kernel = np.zeros((size, size))
    kernel[row, column] = 1
    return kernel


# --- shifts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel", "shift"), [
    (point(3, 1, 5), (1, -1)), (point(2, 2, 4), (0, 0)), (point(0, 3, 4), (-2, 1)), (np.ones((4, 4)), (-0.5, -0.5)),
    (np.ones((1, 1), int), (0, 0)), (7 * gaussian(-2.5, 3.25, size=41), (-2.5, 3.25))])
def test_shift_from_the_middle_to_the_centre_of_mass(kernel, shift):
    assert kernel_shift(kernel) == pytest.approx(shift, abs=1e-6)


def test_a_shift_close_to_whole_pixels_is_whole():
    assert kernel_shift(gaussian(0.09, -0.09, size=41)) == NO_SHIFT
    assert kernel_shift(gaussian(2.95, -4.05, size=41)) == (3, -4)
    assert kernel_shift(gaussian(0.2, -3.8, size=41)) == pytest.approx((0.2, -3.8), abs=1e-4)


@pytest.mark.parametrize("size", [11, 31])
def test_the_disturbed_kernels_of_training_are_centred(size):
    for kernel in random_irregular_kernels(100, size, (0.6, 5), generator=torch.Generator().manual_seed(0)).numpy():
        assert kernel_shift(kernel) == NO_SHIFT


@pytest.mark.parametrize("kernel", [20 * point(0, 0, 3) - 19 * point(2, 2, 3), 4 * point(1, 2, 3) - 3 * point(1, 0, 3)])
def test_refuses_a_centre_of_mass_outside(kernel):
    with pytest.raises(DanFastError, match="outside its 3x3 pixels"):
        kernel_shift(kernel)


def test_shifts_in_words():
    assert str(Shift(0, 4)) == "4.0 pixels right" and str(Shift(-1.25, 0)) == "1.2 pixels up"
    assert str(Shift(2, -3)) == "2.0 pixels down and 3.0 pixels left"
    assert str(NO_SHIFT) == "no pixel"


# --- centred kernels -------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [(0, 4), (-3, 0), (0.5, -0.5), (-2.3, 3.7), (4.75, 4.25)])
@pytest.mark.parametrize("size", [26, 27])
def test_centred(shift, size):
    given = gaussian(*shift, sigma=1.5, size=size)
    found = centred(given)
    assert found.shift == pytest.approx(shift, abs=2e-3)
    assert len(found.kernel) % 2 == 1 and found.kernel.min() >= 0 and found.kernel.sum() == pytest.approx(1)
    assert kernel_shift(found.kernel) == NO_SHIFT
    expected = gaussian(sigma=1.5, size=len(found.kernel))
    assert abs(found.kernel - expected).sum() < 0.02  # bicubic interpolation widens it a little


def test_whole_pixels_are_copied_and_nothing_is_lost_at_the_edge():
    kernel = np.random.default_rng(0).random((5, 5)) * (np.arange(5) < 2)
    kernel[1] += 40 * (np.arange(5) < 1)
    kernel *= 3 / kernel.sum()
    found, shift = centred(kernel)
    assert shift == (-1, -2)  # to within the tolerance
    assert np.sort(found[found > 0]) == pytest.approx(np.sort(kernel[kernel > 0]))
    assert found[len(found) // 2, len(found) // 2] == pytest.approx(kernel[1, 0])


def test_a_centred_kernel_stays_as_it_is():
    kernel = gaussian(0.05, -0.05).astype(np.float32)
    assert np.array_equal(centred(kernel).kernel, kernel) and centred(kernel).shift == NO_SHIFT


# --- moved images ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [(3, -2), (-4, 0), (0, 5), (-300, 1), (700, -30), (1, 0)])
def test_whole_pixels_are_moved_exactly_and_edges_repeated(shift, dtype):
    values = torch.rand(2, 3, 600, 7, dtype=torch.float64)
    images = values.to(dtype) if dtype.is_floating_point else (values * torch.iinfo(dtype).max).to(dtype)
    rows = (torch.arange(600) - shift[0]).clamp(0, 599)
    columns = (torch.arange(7) - shift[1]).clamp(0, 6)
    found = moved(images, Shift(*shift))
    assert found.dtype == dtype
    assert torch.equal(found.double(), images.double()[:, :, rows][..., columns])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32, torch.float64])
def test_fractions_of_a_pixel(dtype):
    largest = 1 if dtype.is_floating_point else torch.iinfo(dtype).max
    rows, columns = torch.meshgrid(torch.arange(300.0), torch.arange(40.0), indexing="ij")

    def waves(down, right):
        return 0.5 + 0.45 * torch.sin((rows - down) / 5).mul(torch.cos((columns - right) / 7))[None, None].double()

    def as_type(values):
        return values.to(dtype) if dtype.is_floating_point else (values * largest).round().to(dtype)

    found = moved(as_type(waves(0, 0)), Shift(1.3, -2.6)).double() / largest
    inner = (..., slice(4, -4), slice(4, -4))
    assert (found - waves(1.3, -2.6))[inner].abs().max() < (0.006 if dtype == torch.uint8 else 0.002)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_overshoot_stays_in_the_range(dtype):
    largest = 1 if dtype.is_floating_point else torch.iinfo(dtype).max
    images = (torch.arange(20) >= 10).to(dtype).expand(1, 1, 9, -1) * largest
    found = moved(images, Shift(0.5, 0.5)).double()
    assert found.min() == 0 and found.max() == largest


def test_no_shift_is_the_same_image():
    images = torch.rand(1, 3, 8, 8)
    assert moved(images, NO_SHIFT) is images


# --- for a network ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3, 20, 21])
def test_what_is_centred_has_the_bits_that_it_had(size):
    kernel = gaussian(0.02, 0.01, sigma=1.0, size=size).astype(np.float32)
    if size % 2 == 0:
        kernel = padded(gaussian(sigma=1.0, size=19), 20).astype(np.float32)
    found = known_kernel(kernel, 21)
    exact = torch.from_numpy(kernel).double()
    before = 10 - size // 2
    expected = torch.nn.functional.pad(exact / exact.sum().item(), (before, 21 - size - before) * 2).float().numpy()
    assert found.shift == NO_SHIFT and found.outside == 0
    assert np.array_equal(found.centred, expected) and np.array_equal(found.given, expected)


@pytest.mark.parametrize("size", [41, 42])
def test_a_larger_kernel_whose_mass_fits(size):
    found = known_kernel(gaussian(9, -8, size=size), 21)
    assert found.shift == (9, -8) and found.outside < 1e-4
    assert np.allclose(found.centred, gaussian(), atol=1e-5) and found.centred.sum() == pytest.approx(1)
    assert found.given.shape == (size, size) and found.given.sum() == pytest.approx(1)


def test_a_larger_kernel_that_does_not_fit():
    with pytest.raises(DanFastError, match=r"31x31 pixels, this network takes at most 21x21, and 7% of the kernel"):
        known_kernel(gaussian(sigma=5, size=31), 21)
    # As wide as the widest kernel of training, whose outside is cut off too.
    found = known_kernel(gaussian(sigma=4, size=41), 21)
    assert 0.016 < found.outside < 0.02 and np.allclose(found.centred, gaussian(sigma=4))


@pytest.mark.parametrize("kind", [np.float16, torch.bfloat16, torch.float64, "grad"])
def test_kinds_of_numbers(kind):
    kernel = gaussian(2, -1, sigma=1.0, size=15)
    if kind == "grad":
        kernel = torch.from_numpy(kernel).requires_grad_()
    else:
        kernel = torch.from_numpy(kernel).to(kind) if isinstance(kind, torch.dtype) else kernel.astype(kind)
    found = known_kernel(kernel, 21)
    assert found.shift == (2, -1)
    assert np.allclose(found.centred, gaussian(sigma=1.0), atol=1e-3) and found.centred.dtype == np.float32


@pytest.mark.parametrize("kernel", [torch.ones(1, 1, dtype=torch.complex64), torch.ones(1, 1, dtype=torch.bool)])
def test_refuses_tensors_that_do_not_hold_numbers(kernel):
    with pytest.raises(DanFastError, match="expected numbers"):
        known_kernel(kernel, 21)


@pytest.mark.parametrize("shift", [(0, 3), (-2, 0), (1.5, -2.25)])
def test_a_kernel_shifts_as_the_reference_blurs(shift):
    """Blurring with a shifted kernel and moving back by its shift is blurring with the centred kernel."""
    hr = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 12), size=(96, 96), mode="bicubic").clamp(0, 1)
    given = centred(gaussian(*shift))
    size = len(given.kernel)
    shifted, centre = (blur(hr, torch.from_numpy(kernel).float()[None])
                       for kernel in (padded(gaussian(*shift), size), given.kernel))
    inner = (..., slice(10, -10), slice(10, -10))
    assert (moved(shifted, given.shift) - centre)[inner].abs().max() < 0.005
    assert (shifted - centre)[inner].abs().max() > 0.03


def test_the_gaussians_of_the_package_are_centred():
    for size in (20, 21):  # the middle of an even kernel is its pixel size // 2
        kernel = gaussian_kernels(torch.tensor([1.5]), size)[0].numpy()
        assert kernel_shift(kernel) == NO_SHIFT
