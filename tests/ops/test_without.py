"""``DAN_FAST_WITHOUT``: single parts of the GPU code are left out by name."""

from __future__ import annotations

import importlib

import pytest
import torch
from dan_fast_kernels import without

from dan_fast import cli, ops
from dan_fast.errors import DanFastError

# The name in ``ops`` is the context manager's.
backend = importlib.import_module("dan_fast.ops.backend")


@pytest.fixture
def leave_out(monkeypatch):
    return lambda *parts: monkeypatch.setenv(without.VARIABLE, ", ".join(parts))


def test_nothing_is_left_out_by_itself(monkeypatch):
    monkeypatch.delenv(without.VARIABLE, raising=False)
    assert not any(map(without.without, without.PARTS))


def test_only_what_is_named(leave_out):
    leave_out("conv3x3", "training_graphs")
    assert [part for part in without.PARTS if without.without(part)] == ["conv3x3", "training_graphs"]
    with pytest.raises(KeyError):
        without.without("conv3")


def test_a_name_that_does_not_exist_is_one_line(leave_out, capsys):
    leave_out("conv3x3", "conv")
    assert cli.main(["doctor"]) == 2
    assert capsys.readouterr().err == (
        "dan-fast doctor: error: DAN_FAST_WITHOUT=conv3x3, conv: there is no part 'conv'; expected some of "
        f"{', '.join(without.PARTS)}\n")


@pytest.mark.parametrize("op, kernel", [("dpcb", "conv3x3"), ("modulate", "modulate")])
def test_automatic_choice_passes_it_over_and_a_named_one_says_why(leave_out, monkeypatch, op, kernel):
    monkeypatch.setattr(backend, "why_no_triton", lambda: "")
    monkeypatch.setattr(backend, "interpreting", lambda: True)
    x = torch.zeros(1)
    choose = lambda: backend.choose(op, ("torch", "triton"), x, part=kernel)  # noqa: E731
    with ops.backend("triton"):
        assert choose() == "triton"
        leave_out(kernel)
        with pytest.raises(DanFastError, match=f"DAN_FAST_WITHOUT leaves {kernel} out"):
            choose()
        leave_out("condition_path")
        assert choose() == "triton"
