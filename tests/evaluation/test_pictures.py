"""Kernel pictures and sheets."""

import numpy as np
import pytest

from dan_fast.evaluation.pictures import kernel_picture, side_by_side


def test_kernel_picture_is_normalised_to_its_maximum():
    kernel = np.zeros((3, 3))
    kernel[0, 2], kernel[1, 1] = 0.002, 0.001
    picture = kernel_picture(kernel, 30)
    assert picture.shape == (30, 30, 3) and picture.dtype == np.uint8
    assert np.array_equal(picture, kernel_picture(kernel * 500, 30))
    brightness = picture.sum(2)[5::10, 5::10]
    assert brightness.argmax() == 2 and brightness[1, 1] > brightness[0, 0] == brightness[2, 2]
    assert (picture[:10, :10] == picture[0, 0]).all()  # nearest neighbour: a tap is a square


@pytest.mark.parametrize("kernel", [np.zeros((3, 4)), np.zeros(9), np.zeros((0, 0))])
def test_kernel_picture_refuses_other_shapes(kernel):
    with pytest.raises(ValueError, match="expected"):
        kernel_picture(kernel)


def test_an_empty_kernel_is_black():
    assert kernel_picture(np.zeros((3, 3))).max() < 10


def test_side_by_side_shows_every_image_below_its_label():
    images = [np.full((40, 60, 3), 50, np.uint8), np.full((20, 30, 3), 100, np.uint8)]
    sheet = side_by_side(images, ["one", "two"])
    assert (sheet == 50).all(2).sum() >= 40 * 60 and (sheet == 100).all(2).sum() >= 20 * 30
    bar = sheet.shape[0] - 40 - 6
    assert sheet[:bar].min() < 100  # the labels
    assert (sheet[:, :6] == 255).all()


@pytest.mark.parametrize(("images", "labels"), [
    ([], []), ([np.zeros((4, 4, 3), np.uint8)], []), ([np.zeros((4, 4))], ["a"]),
    ([np.zeros((4, 4, 3), np.uint16)], ["a"])])
def test_side_by_side_refuses(images, labels):
    with pytest.raises(ValueError, match="expected"):
        side_by_side(images, labels)


def test_letters_that_the_font_lacks_become_question_marks():
    image = np.full((40, 60, 3), 50, np.uint8)
    np.testing.assert_array_equal(side_by_side([image], ["größe"]), side_by_side([image], ["gr??e"]))
    assert (side_by_side([image], ["größe"]) != side_by_side([image], ["gr"])).any()
