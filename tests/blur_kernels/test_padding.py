import numpy as np
import pytest
import torch

from dan_fast.blur_kernels.padding import cropped, padded
from dan_fast.errors import DanFastError
from dan_fast.ops.blur import blur

SIZES = [(4, 7), (4, 8), (5, 9), (5, 8), (6, 6), (1, 2), (1, 21)]


@pytest.mark.parametrize(("small", "large"), SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zeros_lie_around_the_kernel(small, large, dtype):
    kernel = np.random.default_rng(0).random((small, small)).astype(dtype) + 1
    found = padded(kernel, large)
    assert found.shape == (large, large) and found.dtype == dtype
    assert np.count_nonzero(found) == small**2 and np.array_equal(found[found != 0], kernel.ravel())
    assert np.array_equal(cropped(found, small), kernel)


@pytest.mark.parametrize(("small", "large"), SIZES)
def test_a_padded_kernel_blurs_as_before(small, large):
    kernel = np.random.default_rng(0).random((small, small))
    hr = torch.rand(1, 1, 64, 64, dtype=torch.float64)
    alone, wide = (blur(hr, torch.from_numpy(k)[None]) for k in (kernel, padded(kernel, large)))
    assert torch.allclose(alone, wide, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("function", "kernel", "size", "message"), [
    (padded, np.ones((5, 5)), 4, r"5x5 taps cannot be padded to 4x4"),
    (cropped, np.ones((5, 5)), 6, r"5x5 taps cannot be cropped to 6x6"),
    (padded, np.ones((3, 4)), 5, r"\(3, 4\), expected \(k, k\)"),
    (cropped, np.ones((1, 3, 3)), 2, r"\(1, 3, 3\), expected \(k, k\)")])
def test_refuses_what_cannot_be(function, kernel, size, message):
    with pytest.raises(DanFastError, match=message):
        function(kernel, size)
