"""An ``Upscaler`` in another process or copied: the same network and options, the same bits."""

from __future__ import annotations

import copy
import inspect
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from support.networks import tiny_config
from torch import multiprocessing as torch_multiprocessing

import dan_fast

# Every option at another value than its default.
OPTIONS = {"tile": 32, "halo": 3, "dtype": torch.float64, "device": "cpu", "iterations": 3, "tolerance": 0.5,
           "kernel_from": "crop", "ensemble": True, "strength": 0.7, "blur": 0.9}


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 37, 3), dtype=np.uint8)


def upscaled(upscaler: dan_fast.Upscaler) -> tuple[np.ndarray, np.ndarray]:
    """Runs in the other process too."""
    return tuple(upscaler(image()))


def assert_same(found, upscaler) -> None:
    for one, other in zip(found, upscaled(upscaler), strict=True):
        assert one.dtype == other.dtype and np.array_equal(one, other)


def pickled(upscaler):
    return pickle.loads(pickle.dumps(upscaler))


@pytest.fixture(params=["v2", "v1"])
def model(request) -> dan_fast.DAN:
    groups = {"v1": {"groups": 0, "blocks": 2}, "v2": {}}[request.param]
    return dan_fast.DAN(tiny_config(version=request.param, **groups)).eval()


def test_options_are_all_of_them():
    assert list(OPTIONS) == [name for name in inspect.signature(dan_fast.Upscaler).parameters if name != "model"]


@pytest.mark.parametrize("travel", [pickled, copy.deepcopy, copy.copy])
@pytest.mark.parametrize("name", [None, *OPTIONS])
def test_the_same_bits(tiny_model, travel, name):
    upscaler = dan_fast.Upscaler(tiny_model, **({} if name is None else {name: OPTIONS[name]}))
    found = travel(upscaler)
    assert found._engine.options == upscaler._engine.options and found.ensemble == upscaler.ensemble
    assert found.plan.dtype == upscaler.plan.dtype and found.device == upscaler.device
    assert_same(upscaled(found), upscaler)


def test_used_and_of_both_versions(model):
    upscaler = dan_fast.Upscaler(model)
    before = upscaled(upscaler)
    found = pickled(upscaler)
    assert found.stats().images == 0 and upscaler.stats().images == 1
    assert_same(before, found)
    assert found.model.config == model.config and not found.model.training


@pytest.mark.parametrize("module", [multiprocessing, torch_multiprocessing], ids=["multiprocessing", "torch's"])
def test_to_a_spawned_process(tiny_model, module):
    upscaler = dan_fast.Upscaler(tiny_model, tile=16)
    with module.get_context("spawn").Pool(1) as pool:
        assert_same(pool.apply_async(upscaled, (upscaler,)).get(timeout=300), upscaler)
