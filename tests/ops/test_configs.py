"""The choice of a GPU kernel's configuration, and the contents of ``tuned.json``."""

from __future__ import annotations

import json

import pytest
import torch
from dan_fast_kernels import configs

from dan_fast.ops.layout import SLOPE

CANDIDATES = {80: [{"BLOCK": 1}, {"BLOCK": 2}], 90: [{"BLOCK": 3}]}
CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize("capability, block", [(75, 1), (80, 1), (89, 1), (90, 3), (100, 3)])
def test_default_is_that_of_the_generation(monkeypatch, capability, block):
    monkeypatch.setattr(configs, "_properties", lambda index: ("card", capability))
    monkeypatch.setattr(configs, "_tuned", dict)
    assert configs.choose("kernel", "shape", CANDIDATES, CUDA) == {"BLOCK": block}


def test_interpreter_takes_the_oldest():
    assert configs.choose("kernel", "shape", CANDIDATES, torch.device("cpu")) == {"BLOCK": 1}


def test_tuned_choice_of_this_card_kernel_and_shape(monkeypatch, tmp_path):
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps({"card": {"kernel": {"shape": {"BLOCK": 2}}}}))
    monkeypatch.setattr(configs, "TUNED", path)
    configs._tuned.cache_clear()
    try:
        for name, kernel, shape, block in (("card", "kernel", "shape", 2), ("other", "kernel", "shape", 1),
                                           ("card", "other", "shape", 1), ("card", "kernel", "other", 1)):
            monkeypatch.setattr(configs, "_properties", lambda index, name=name: (name, 80))
            assert configs.choose(kernel, shape, CANDIDATES, CUDA) == {"BLOCK": block}
    finally:
        configs._tuned.cache_clear()


@pytest.mark.parametrize("shape, name", [
    ((1, 64, 64, 64), "float32 C64 small"),
    ((1, 64, 510, 340), "float32 C64 medium"),
    ((64, 32, 64, 65), "float32 C32 large"),
])
def test_shape_classes(shape, name):
    assert configs.shape_class(torch.empty(shape, device="meta")) == name


def test_one_slope():
    """The GPU kernels cannot import it from ``dan_fast``."""
    pytest.importorskip("triton", reason="triton is not installed")
    from dan_fast_kernels import activation

    assert activation.SLOPE.value == SLOPE
