import numpy as np
import pytest

from dan_fast.evaluation.crops import crop_to_multiple, middle


@pytest.mark.parametrize(("size", "scale", "expected"), [((9, 8), 4, (8, 8)), ((9, 8), 3, (9, 6)), ((8, 8), 2, (8, 8))])
def test_crop_to_multiple_leaves_out_the_last_rows_and_columns(size, scale, expected):
    image = np.arange(3 * size[0] * size[1]).reshape(*size, 3)
    found = crop_to_multiple(image, scale)
    assert found.shape == (*expected, 3) and found.flags.c_contiguous
    np.testing.assert_array_equal(found, image[:expected[0], :expected[1]])


def test_middle():
    image = np.arange(70).reshape(7, 10)
    np.testing.assert_array_equal(middle(image, 4), image[1:5, 3:7])
    np.testing.assert_array_equal(middle(image, 8), image[:, 1:9])
    np.testing.assert_array_equal(middle(image, 20), image)
