"""Which settings may change when a run is resumed."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.networks import tiny_config

from dan_fast.degradation.pipeline import Degradation
from dan_fast.errors import DanFastError
from dan_fast.training.presets import Preset
from dan_fast.training.resuming import change_settings
from dan_fast.training.settings import TrainingSettings

SAVED = Preset(tiny_config(scale=2), Degradation(2, 21, (0.2, 2.0)), TrainingSettings(steps=12, warmup=2))


def resumed(saved_minutes: float = 0.0, *, seed: int = 0, named=(), **changes) -> TrainingSettings:
    """The settings after ``changes`` to those of a run saved with ``saved_minutes``.

    ``named``: the fields that the user named.
    """
    saved = replace(SAVED, training=replace(SAVED.training, minutes=saved_minutes))
    run = SimpleNamespace(preset=saved, seed=0, options=SimpleNamespace(out=Path("runs/x")))
    change_settings(run, replace(saved, training=replace(saved.training, **changes)), seed, named)
    return run.preset.training


def test_its_length_changes_where_the_user_names_it():
    assert resumed(steps=20, named=["steps"]).steps == 20
    assert resumed(steps=20).steps == 12
    assert resumed(minutes=1.0, named=["minutes"]).minutes == 1
    assert resumed(5.0, minutes=9.0, named=["minutes"]).minutes == 9


def test_the_schedule_changes_only_by_the_clock():
    assert resumed(5.0, schedule="cosine", named=["schedule"]).schedule == "cosine"
    assert resumed(minutes=5.0, schedule="cosine", named=["minutes", "schedule"]).schedule == "cosine"
    for minutes in (0.0, 5.0):  # the latter run goes on by steps
        with pytest.raises(DanFastError, match="schedule=cosine: the run in runs/x has halving; leave it out"):
            resumed(minutes, minutes=0.0, schedule="cosine", named=["minutes", "schedule"])


def test_a_warm_up_that_was_not_named_stays_by_the_clock():
    assert resumed(5.0, warmup=7).warmup == 2
    for minutes, named in ((5.0, ["warmup"]), (0.0, [])):
        with pytest.raises(DanFastError, match="warmup=7: the run in runs/x has 2"):
            resumed(minutes, warmup=7, named=named)


def test_nothing_else_changes():
    for name, value in (("batch", 5), ("ema", 0.5), ("loss", "l2")):
        with pytest.raises(DanFastError, match=f"{name}={value}: "):
            resumed(5.0, named=[name], **{name: value})
    with pytest.raises(DanFastError, match="seed=9: the run in runs/x has 0"):
        resumed(seed=9)
