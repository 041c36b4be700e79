import pytest
from support.image_sets import write_random


@pytest.fixture
def folder(tmp_path):
    """A folder of two small images."""
    for i in range(2):
        write_random(tmp_path / "set" / f"{i}.png", seed=i)
    return tmp_path / "set"
