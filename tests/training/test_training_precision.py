"""``--precision auto``: float32 where the compiled operators support the network, whatever the CPU supports."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from support.networks import tiny_config
from test_training import TINY, options, photos  # noqa: F401  a fixture

from dan_fast.ops import backend
from dan_fast.training.loop import train
from dan_fast.training.precision import faster_precision
from dan_fast.training.presets import PRESETS
from dan_fast.training.run import Run

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False], ids=["bf16 instructions", "none"])
def instructions(request, monkeypatch) -> bool:
    """Pretend that the CPU has instructions for bfloat16, or that it has none."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: request.param)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: request.param)
    return request.param


def test_compiled_operators_decide(native, instructions):
    assert not faster_precision(PRESETS["v2-0.3M-x4"].config, CPU).bf16
    assert not faster_precision(tiny_config(), CPU).bf16


@pytest.mark.parametrize("config", [tiny_config(channels=20), tiny_config(estimator_channels=20),
                                    tiny_config(version="v1", groups=0), PRESETS["v2-x4"].config],
                         ids=["channels", "estimator", "v1", "published upsampler"])
def test_what_is_mostly_pytorchs(native, instructions, config):
    assert faster_precision(config, CPU).bf16 == instructions


def test_without_them(instructions):
    with backend("torch"):
        assert faster_precision(PRESETS["v2-0.3M-x4"].config, CPU).bf16 == instructions


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("bf16", [True, False, None])
def test_a_run_says_its_precision(photos, tmp_path, caplog, bf16):  # noqa: F811
    caplog.set_level(logging.INFO, "dan_fast.train")
    run = Run(replace(TINY, training=replace(TINY.training, steps=1)), 0, options(tmp_path / "run", bf16=bf16))
    assert train(run, [photos])
    expected = faster_precision(TINY.config, CPU) if bf16 is None else (bf16, "as asked for")
    assert run.training_step.bf16 == expected[0]
    assert f"in {'bfloat16' if expected[0] else 'float32'} ({expected[1]})" in caplog.text


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("began", [True, False])
@pytest.mark.parametrize("asked", [True, False, None])
def test_a_resumed_run_keeps_its_precision_unless_asked(photos, tmp_path, caplog, began, asked):  # noqa: F811
    """Also on a CPU where auto would choose the other type."""
    short = replace(TINY, training=replace(TINY.training, steps=1))
    assert train(Run(short, 0, options(tmp_path / "run", bf16=began)), [photos])
    resumed = Run.resume(options(tmp_path / "run", bf16=asked))
    assert resumed.training_step.bf16 == resumed.precision.bf16 == (began if asked is None else asked)
    assert resumed.precision.why == ("as the run began" if asked is None else "as asked for")


@pytest.mark.usefixtures("one_thread")
def test_runs_that_noted_no_precision_resume(photos, tmp_path):  # noqa: F811
    run = Run(TINY, 0, options(tmp_path / "run", bf16=True))
    run.save()
    state = run.checkpoints.read()
    del state["bf16"]
    run.checkpoints.write(run.step, state)
    resumed = Run.resume(options(tmp_path / "run", bf16=None))
    assert resumed.precision == faster_precision(TINY.config, CPU)
