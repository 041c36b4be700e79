"""``benchmarks/gpu_check.py`` and ``tune.py`` as far as they go without a GPU: fences, table, files, choices."""

from __future__ import annotations

import csv
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CASE = {"fullname": "benchmarks/bench_modulate.py::test_against_floor[small]", "name": "test_against_floor[small]",
        "stats": {"median": 3e-4}, "extra_info": {"s_a_call": 1.2345e-5, "reference_s_a_call": 2e-5, "ratio": 1.62,
                                                  "of_floor": 0.617, "against": "a copy"}}


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def check(load):
    return load("gpu_check")


def python(check, name, code, limit=60.0, **environment):
    return check.Part(name, [sys.executable, "-c", code], limit, environment)


def test_refuses_without_a_gpu():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = subprocess.run([sys.executable, str(BENCHMARKS / "gpu_check.py")], capture_output=True, text=True)
    assert result.returncode == 2 and not result.stdout
    assert result.stderr.startswith("gpu-check needs an NVIDIA GPU: torch") and result.stderr.count("\n") == 1


def test_one_failure_costs_only_itself(check):
    outcomes = check.run_all([
        python(check, "good", "import os; print('said', os.environ['GIVEN'])", GIVEN="this"),
        python(check, "bad", "print('last words'); raise SystemExit(7)"),
        check.Part("missing", ["no-such-program-here"], 60, {}),
        python(check, "after", "print('fine')"),
    ], 100)
    assert [outcome.failure for outcome in outcomes[:2]] == ["", "exit code 7"]
    assert "said this" in outcomes[0].output and "last words" in outcomes[1].output
    assert outcomes[2].failure.startswith("does not start: ")
    assert not outcomes[3].failure


def test_a_part_that_takes_too_long_may_write_what_it_has_and_is_ended(check, monkeypatch):
    monkeypatch.setattr(check, "GRACE", 3)
    code = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    print("asked", flush=True)
    {}
"""
    for last in ("pass", "time.sleep(60)"):
        for limit in (2, 8, 32):  # a busy machine may need longer to start it
            start = time.monotonic()
            outcome = check.run(python(check, "slow", code.format(last)), limit)
            assert time.monotonic() - start < 60  # it was not waited for
            assert outcome.failure == f"not done after {limit} s"
            if outcome.output:
                break
        pid, asked = outcome.output.split()[:2]
        assert asked == "asked"
        assert ended(pid), "its child lives on"


def ended(pid: str) -> bool:
    """Whether the process is gone, or nothing but an entry that nobody has read, within ten seconds."""
    state = Path(f"/proc/{pid}/stat")
    for _ in range(100):
        try:
            if state.read_text().split()[2] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False


def test_time_is_limited_in_all(check):
    start = time.monotonic()
    outcomes = check.run_all([python(check, str(i), "import time; time.sleep(30)") for i in range(4)], 2)
    assert time.monotonic() - start < 30  # not even for the first of them
    assert all(outcome.failure for outcome in outcomes)


def test_parts_fit_and_exist(check, tmp_path):
    parts = check.parts(tmp_path)
    names = [part.name for part in parts]
    assert names[:5] == ["build", "tests", "memcheck", "racecheck", "tune"]
    assert {"bench_modulate", "bench_condition_path", "bench_channel_attention", "bench_estimator_tail"} <= set(names)
    assert "bench_degradation" in names and "bench_cpu" not in names
    for part in parts:
        for word in part.command:
            if word.endswith(".py"):
                assert (BENCHMARKS.parent / word).is_file(), word
    assert check.SECONDS <= 9 * 60


def test_table_and_files(check, tmp_path):
    rows = check.rows_of({"benchmarks": [CASE, {**CASE, "name": "other", "extra_info": {}}]})
    assert rows[0]["us"] == pytest.approx(12.345) and rows[1]["us"] == pytest.approx(300)
    lines = check.table(rows).splitlines()
    assert lines[0].split() == list(check.COLUMNS)
    assert lines[1].split() == ["modulate", "test_against_floor[small]", "12.3", "20", "1.62", "0.617", "a", "copy"]
    assert check.table([]).split() == list(check.COLUMNS)

    path = check.write(tmp_path / "new", "NVIDIA H100 80GB HBM3", {"revision": "abc"}, rows)
    assert path.name == "gpu_nvidia_h100_80gb_hbm3.json"
    assert json.loads(path.read_text())["revision"] == "abc" and "NaN" not in path.read_text()
    with path.with_suffix(".csv").open() as file:
        assert [row["benchmark"] for row in csv.DictReader(file)] == [row["benchmark"] for row in rows]


def test_facts_say_what_is_missing(check, monkeypatch):
    facts = check.facts()
    assert facts["versions"]["torch"] == torch.__version__
    assert check.said("no-such-program-here").startswith("no-such-program-here: ")


@pytest.fixture
def tuner(load):
    return load("tune").Tuner(80)


def steps_of(tuner, seconds):
    """A step of two kernels, and a clock: the sum of what ``seconds`` says of the blocks that they were given."""
    given = {}

    def step():
        for kernel in ("a", "b"):
            candidates = {80: [{"BLOCK": block} for block in (1, 2, 3)], 90: [{"BLOCK": 9}]}
            given[kernel] = tuner.choose(kernel, "small", candidates, torch.device("cpu"))["BLOCK"]

    def seconds_of(step):
        step()
        return sum(seconds[kernel, block] for kernel, block in given.items())

    return step, seconds_of, given


def test_tunes_each_kernel_alone(tuner):
    seconds = {("a", 1): 3.0, ("a", 2): 1.0, ("a", 3): 2.0, ("b", 1): 1.0, ("b", 2): 1.0, ("b", 3): 5.0}
    step, seconds_of, given = steps_of(tuner, seconds)
    tuner.tune(step, seconds_of)
    assert tuner.better == {("a", "small"): {"BLOCK": 2}}  # b has nothing better than its default
    step()
    assert given == {"a": 2, "b": 1}
    tuner.tune(step, lambda step: pytest.fail("tuned twice"))


def test_a_candidate_that_does_not_run_costs_only_itself(tuner, capsys):
    seconds = {("a", 1): 3.0, ("a", 3): 2.0, ("b", 1): 1.0, ("b", 2): 1.0, ("b", 3): 0.5}
    step, seconds_of, _ = steps_of(tuner, seconds)
    tuner.tune(step, seconds_of)
    assert tuner.better == {("a", "small"): {"BLOCK": 3}, ("b", "small"): {"BLOCK": 3}}
    assert "a small: {'BLOCK': 2} does not run" in capsys.readouterr().out


def test_what_is_written_is_what_kernels_read(load, tmp_path, monkeypatch):
    from dan_fast_kernels import configs

    path = tmp_path / "tuned.json"
    path.write_text(json.dumps({"other card": {"a": {"small": {"BLOCK": 8}}},
                                "card": {"a": {"small": {"BLOCK": 7}, "large": {"BLOCK": 6}}, "c": {"small": {}}}}))
    load("tune").write(path, "card", {("b", "small"): {"BLOCK": 2}}, {("a", "small"), ("b", "small"), ("c", "small")})
    assert json.loads(path.read_text()) == {
        "other card": {"a": {"small": {"BLOCK": 8}}},
        "card": {"a": {"large": {"BLOCK": 6}}, "b": {"small": {"BLOCK": 2}}}}
    monkeypatch.setattr(configs, "TUNED", path)
    monkeypatch.setattr(configs, "_properties", lambda index: ("card", 80))
    configs._tuned.cache_clear()
    try:
        assert configs.choose("b", "small", {80: [{"BLOCK": 1}]}, torch.device("cuda", 0)) == {"BLOCK": 2}
    finally:
        configs._tuned.cache_clear()
