import dataclasses
import inspect

import pytest

from dan_fast import DANConfig
from dan_fast.config import field_help


def test_defaults_are_the_published_networks():
    v2, v1 = DANConfig(), DANConfig(version="v1")
    assert (v2.groups, v2.blocks, v2.channels, v2.kernel_size, v2.code_length, v2.iterations) == (5, 10, 64, 21, 10, 4)
    assert v2.group_residual == "doubled" and v2.gradient == "last"
    assert (v1.groups, v1.blocks) == (0, 40)


@pytest.mark.parametrize(("field", "value"), [
    ("version", "v3"), ("scale", 5), ("scale", 4.0), ("scale", True), ("image_channels", 2), ("channels", 0),
    ("groups", -1), ("groups", 1.5), ("blocks", "many"), ("kernel_size", 0), ("code_length", 442),
    ("iterations", 0), ("group_residual", "triple"), ("upsampler", "nearest"), ("gradient", "first"),
    ("estimator_channels", -3), ("estimator_blocks", 0), ("chanels", 64),
])
def test_impossible_values_name_their_field(field, value):
    with pytest.raises(ValueError, match=field):
        DANConfig(**{field: value})


def test_v1_has_no_groups_and_needs_channels_to_squeeze():
    with pytest.raises(ValueError, match="groups"):
        DANConfig(version="v1", groups=5)
    with pytest.raises(ValueError, match="channels"):
        DANConfig(version="v1", channels=8)


@pytest.mark.parametrize(("values", "message"), [
    ({"refiner_channels": 64}, "refiner_groups=0: expected a whole number of at least 1; all three fields"),
    ({"refiner_blocks": 4}, "refiner_channels=0"),
    ({"refiner_channels": -1, "refiner_groups": 1, "refiner_blocks": 1}, "refiner_channels=-1"),
    ({"refiner_channels": False}, "refiner_channels=False"),
    ({"version": "v1", "refiner_channels": 64, "refiner_groups": 1, "refiner_blocks": 1}, "v1 has no Refiner"),
])
def test_a_refiner_is_whole_or_not_there(values, message):
    with pytest.raises(ValueError, match=message):
        DANConfig(**values)


def test_the_refiner_s_shape():
    config = DANConfig(refiner_channels=32, refiner_groups=3, refiner_blocks=2, scale=3)
    assert DANConfig().refiner is None and config.refiner.refiner is None
    refiner = config.refiner
    assert (refiner.channels, refiner.groups, refiner.blocks, refiner.scale) == (32, 3, 2, 3)


def test_is_a_plain_dataclass_whose_fields_explain_themselves():
    """Editors complete what the signature shows, and ``dan-fast train --help`` prints the texts."""
    names = [field.name for field in dataclasses.fields(DANConfig)]
    assert list(inspect.signature(DANConfig).parameters) == names
    assert "__init__" not in inspect.getsource(DANConfig)
    assert all(len(text) > 5 for text in field_help(DANConfig).values()) and list(field_help(DANConfig)) == names


def test_is_frozen_and_replaceable():
    config = DANConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.scale = 2
    assert dataclasses.replace(config, scale=2).scale == 2
    assert DANConfig(**dataclasses.asdict(config)) == config
