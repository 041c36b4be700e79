"""Benchmarks import, cover every operator, have baselines with the same result, and skip with a reason."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dan_fast import ops

pytestmark = pytest.mark.slow  # they start processes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run_benchmarks(*options: str, **environment: str) -> str:
    """The output of all benchmarks with these options of pytest, nothing timed."""
    result = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rs", "--benchmark-disable", "-p",
                             "no:cacheprovider", str(BENCHMARKS), *options], capture_output=True, text=True,
                            env={**os.environ, **environment})
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    return result.stdout


def test_every_operator_has_a_benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    operators = importlib.import_module("operators")
    calls = [call for network in operators.NETWORKS for call in operators.all_calls(
        operators.config_of(network), 1, 4, 4, torch.float32, "cpu")]
    covered = {call.operator.__name__ for call in calls}
    covered |= {path.stem.removeprefix("bench_") for path in BENCHMARKS.glob("bench_*.py")}
    has_reference = {name for name in ops.__all__
                     if hasattr(sys.modules[getattr(ops, name).__module__], f"{name}_ref")}
    assert len(has_reference) > 10 and has_reference <= covered


def test_operators_and_their_baselines_compute_the_same():
    said = run_benchmarks("-k", "test_operator", DAN_FAST_DRY="1")
    assert int(re.search(r"(\d+) passed", said)[1]) > 20


def test_benchmarks_of_gpus_skip_with_a_reason():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    said = run_benchmarks("-m", "gpu")
    assert "passed" not in said and re.search(r"SKIPPED \[\d{2,}\] .*: torch", said)
