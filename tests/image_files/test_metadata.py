"""The EXIF orientation is applied, the colour profile kept."""

import numpy as np
import pytest
from PIL import Image
from support.image_files import noise, save

from dan_fast.image_files import read_image

UPRIGHT = {  # EXIF: what turns the stored image upright
    1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("suffix", "dtype"), [("png", np.uint8), ("tif", np.uint8), ("png", np.uint16),
                                               ("tif", np.uint16)])
def test_applies_the_orientation(tmp_path, orientation, suffix, dtype):
    pixels = noise(4, 6, dtype=dtype)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", pixels, exif=exif)
    assert np.array_equal(read_image(path).pixels, UPRIGHT[orientation](pixels))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ignores_an_impossible_orientation(tmp_path, orientation, dtype):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = noise(4, 6, dtype=dtype)
    assert np.array_equal(read_image(save(tmp_path / "a.png", pixels, exif=exif)).pixels, pixels)


def test_ignores_broken_exif(tmp_path):
    pixels = noise(4, 6, 3)
    path = save(tmp_path / "a.png", pixels, exif=b"Exif\0\0rubbish that is no TIFF header")
    assert np.array_equal(read_image(path).rgb, pixels)


def test_keeps_the_colour_profile(tmp_path):
    path = save(tmp_path / "a.jpg", noise(4, 4, 3), icc_profile=b"some profile")
    assert read_image(path).icc_profile == b"some profile"
