import numpy as np
import pytest
from support.image_files import noise

from dan_fast.image_files import Photo, to_8_bits


def test_16_to_8_bits_rounds_to_nearest():
    values = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_8_bits(values), np.rint(values / 257).astype(np.uint8))
    assert to_8_bits(values.astype(np.uint8)).dtype == np.uint8


def test_photo_is_frozen():
    with pytest.raises(AttributeError):
        Photo(noise(2, 2, 3)).grey = True
