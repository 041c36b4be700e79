"""Width and direction of kernels."""

import numpy as np
import pytest

from dan_fast.blur_kernels.shape import kernel_shape


@pytest.mark.parametrize("angle", [0, 30, 90, 150])
def test_kernel_shape_of_a_gaussian(angle):
    down, right = np.mgrid[-15:16, -15:16]
    turn = np.radians(angle)
    along = right * np.cos(turn) - down * np.sin(turn)
    across = right * np.sin(turn) + down * np.cos(turn)
    shape = kernel_shape(np.exp(-(along / 3) ** 2 / 2 - (across / 1.5) ** 2 / 2))
    assert shape.major == pytest.approx(3, rel=0.01) and shape.minor == pytest.approx(1.5, rel=0.01)
    assert min(abs(shape.angle - angle), 180 - abs(shape.angle - angle)) < 1
    assert str(shape).startswith("sigma 3.00 x 1.50")


def test_kernel_shape_of_a_point():
    point = np.zeros((5, 5))
    point[1, 3] = 7
    assert kernel_shape(point)[:2] == (0, 0)
