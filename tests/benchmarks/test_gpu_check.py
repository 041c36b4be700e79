"""``benchmarks/gpu_check.py`` and ``tune.py`` without a GPU: time limits, summary, files, tuned choices."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def check(load):
    return load("gpu_check")


def section(check, name, code, limit=60.0, **options):
    return check.Section(name, limit, (sys.executable, "-c", code), **options)


def test_refuses_without_a_gpu(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = subprocess.run([sys.executable, str(BENCHMARKS / "gpu_check.py"), "--out", str(tmp_path / "out")],
                            capture_output=True, text=True)
    assert result.returncode == 2 and not result.stdout and not (tmp_path / "out").exists()
    assert result.stderr.startswith("gpu-check needs an NVIDIA GPU: torch") and result.stderr.count("\n") == 1


def test_a_section_that_does_not_exist_is_named(check, capsys):
    with pytest.raises(SystemExit) as error:
        check.main(["env", "trian"])
    assert error.value.code == 2 and "there is no section trian; there are" in capsys.readouterr().err


def test_every_line_that_needs_no_gpu_runs(tmp_path):
    """A line that fails here would have failed on a GPU that is lent for minutes."""
    result = subprocess.run([sys.executable, str(BENCHMARKS / "gpu_check.py"), "--dry", "--out", str(tmp_path)],
                            capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert {row["section"] for row in rows} == {"env", "fit", "ops", "infer", "train", "profile", "compile"}
    assert not [row for row in rows if "FAILED" in row or "WRONG" in row]
    losses = [row["loss"] for row in rows if row.get("what", "").startswith("step ")]
    assert len(set(losses)) == len(losses) == 8
    assert "===== train\n" in (log := (tmp_path / "log.txt").read_text()) and "\ntuned 0 kernels" in log


def test_one_failure_costs_only_itself(check, tmp_path):
    outcomes = check.execute_all([
        section(check, "good", "import os; print('said', os.environ['GIVEN'], os.environ['OUT'])",
                environment={"GIVEN": "this"}),
        section(check, "bad", "print('last words'); raise SystemExit(7)"),
        check.Section("missing", 60, ("no-such-program-here",)),
        section(check, "after", "import os; print(os.environ['DAN_FAST_SECTION'])"),
    ], 100, tmp_path, {})
    assert [outcome.failure for outcome in outcomes[:2]] == ["", "exit code 7"]
    assert f"said this {tmp_path}" in outcomes[0].output and "last words" in outcomes[1].output
    assert outcomes[2].failure.startswith("does not start: ")
    assert outcomes[3].output == "after\n" and not outcomes[3].failure
    assert "===== bad\nlast words" in (tmp_path / "log.txt").read_text()


def test_a_section_that_takes_too_long_may_write_what_it_has_and_is_ended(check, monkeypatch, tmp_path):
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
            outcome = check.execute(section(check, "slow", code.format(last)), limit, {}, tmp_path / "log.txt")
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


def test_the_log_is_there_while_a_section_runs_and_stays_small(check, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "LOG", 1000)
    log = tmp_path / "log.txt"
    loud = f"print('first'); assert 'first' in open({str(log)!r}).read(); print(5000 * 'é', 'last words')"
    both = [section(check, "quiet", "print('here')"), section(check, "loud", loud)]
    outcomes = check.execute_all(both, 60, tmp_path, {})
    assert not any(outcome.failure for outcome in outcomes) and outcomes[1].output.endswith("é last words\n")
    assert log.stat().st_size < 1100 and log.read_text(errors="replace").startswith("\n===== quiet\nhere\n\n===== loud")


def test_time_is_limited_in_all(check, tmp_path):
    start = time.monotonic()
    sleepers = [section(check, str(i), "import time; time.sleep(30)") for i in range(4)]
    outcomes = check.execute_all(sleepers, 14, tmp_path, {})
    assert time.monotonic() - start < 30  # not even for the first of them
    assert all(outcome.failure for outcome in outcomes) and outcomes[-1].failure == "no time was left"


@pytest.mark.parametrize("prebuilt, seconds", [(True, 680), (False, 800)])
def test_no_section_can_starve_those_after_it(check, tmp_path, monkeypatch, prebuilt, seconds):
    """If each took its whole limit and had to be killed, only the last two would get less than theirs."""
    monkeypatch.setattr(check, "PROBE", Path(__file__))  # there is one
    every = check.sections(prebuilt=prebuilt, out=tmp_path)
    assert "probe" in [found.name for found in every]
    assert [found.name for found in every[-2:]] == ["tune", "compile"] and check.SECONDS == 800
    now, given = [0.0], {}

    def take_it_all(found, limit, environment, log):
        given[found.name] = limit
        now[0] += limit + check.GRACE
        return check.Outcome(found.name, limit, "not done", "")
    monkeypatch.setattr(check, "execute", take_it_all)
    monkeypatch.setattr(check.time, "monotonic", lambda: now[0])
    check.execute_all(every, seconds, tmp_path, {})
    assert all(given[found.name] == found.limit for found in every[:-2])
    assert now[0] <= seconds
    # In the order of importance: what a kernel does, before what a network does with it, before what is compared.
    names = list(given)
    assert names.index("fit") < names.index("ops") < names.index("infer") < names.index("train") < names.index("t_blur")


def test_the_files_of_sections_exist(check, tmp_path):
    for found in (*check.sections(prebuilt=False, out=tmp_path), *check.further()):
        if not found.command:
            assert (BENCHMARKS / "sections" / f"{found.name}.py").is_file()
        for word in found.command:
            if word.endswith(".py"):
                assert (BENCHMARKS.parent / word).is_file(), word


def test_what_is_not_fit_is_left_out_where_a_network_runs(check, tmp_path, monkeypatch):
    monkeypatch.delenv("DAN_FAST_WITHOUT", raising=False)
    rows = [{"section": "fit", "part": "conv3x3", "fit": False, "reason": "off"},
            {"section": "fit", "part": "modulate", "fit": True}, {"section": "ops", "part": "upsampler", "fit": False}]
    (tmp_path / "results.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"section": "cut o')
    code = "import os; print(os.environ.get('DAN_FAST_WITHOUT', 'nothing'))"
    both = [section(check, "infer", code, leaves_out=True), section(check, "tests", code)]
    outcomes = check.execute_all(both, 60, tmp_path, {})
    assert [outcome.output.strip() for outcome in outcomes] == ["conv3x3", "nothing"]
    # Parts that the caller leaves out stay left out.
    monkeypatch.setenv("DAN_FAST_WITHOUT", "descriptors, conv3x3")
    assert check.execute_all(both[:1], 60, tmp_path, {})[0].output.strip() == "descriptors,conv3x3"
    assert {found.name for found in check.sections(prebuilt=True, out=tmp_path) if found.leaves_out} == {
        "infer", "train", "profile", "tune"}


def test_the_summary_has_what_matters_and_fits(check, tmp_path):
    rows = [{"section": "ops", "what": "lrelu", "C": 64, "shape": "510x340", "us": 40.0 + n, "error": 1e-3,
             "config": f"number {n}"} for n in range(300)]
    rows += [{"section": "ops", "what": "lrelu", "C": 32, "shape": "x", "config": "wrong one", "WRONG": True}]
    rows += [{"section": "infer", "what": "whole call", "ms": 12.3456789, "network": "v2", "graph_ms": None}] * 40
    rows += [{"section": "profile", "kernel": "k" * 300}] * 200
    outcomes = [check.Outcome("env", 3.2, "", "fine"),
                check.Outcome("t_triton", 61, "exit code 1", "x" * 5000 + "the end"),
                check.Outcome("compile", 0, "no time was left", "")]
    text = check.summary(rows, outcomes, tmp_path)
    assert len(text) <= check.OUTPUT == 12_000
    lines = text.splitlines()
    assert lines[0] == "--- t_triton: exit code 1" and lines[1].endswith("the end") and len(lines[1]) <= 900
    assert lines[-1] == f"{tmp_path / 'results.jsonl'}; failed: t_triton, compile"
    assert lines[-2] == "env 3 s done; t_triton 61 s exit code 1; compile 0 s no time was left"
    assert "infer: what=whole call ms=12.35 network=v2" in lines
    assert "number 0" in text and "number 1 " not in text and "wrong one" in text


def test_the_checkout_runs_as_it_is_where_it_was_carried_to(load, check, tmp_path, monkeypatch):
    """Its own kernels, Triton's cache unpacked where it was filled, and the revision of the source."""
    cache = tmp_path / "there" / "cache"
    (tmp_path / "here" / "cache").mkdir(parents=True)
    (tmp_path / "here" / "cache" / "kernel").write_text("compiled")
    archive, note = tmp_path / "triton.txz", tmp_path / "revision"
    carried = tmp_path / "dan_fast_kernels" / "_C.abi3.so"
    carried.parent.mkdir()
    carried.write_text("not read here")
    monkeypatch.setattr(load("gpu_carry"), "CARRY", tmp_path)
    with tarfile.open(archive, "w:xz") as file:
        file.add(tmp_path / "here" / "cache", "cache")
    note.write_text("abc123-dirty\n")
    for name, value in (("ARCHIVE", archive), ("CACHE", cache), ("REVISION", note)):
        monkeypatch.setattr(check, name, value)
    environment = check.prebuilt(tmp_path)
    assert (cache / "kernel").read_text() == "compiled" and environment["TRITON_CACHE_DIR"] == str(cache)
    assert environment["DAN_FAST_REVISION"] == "abc123-dirty"
    package = Path(environment["PYTHONPATH"].partition(os.pathsep)[0]) / "dan_fast_kernels"
    program = "import dan_fast_kernels.conv3x3 as kernels; print(kernels.__file__)"
    said = subprocess.run([sys.executable, "-c", program], env={**os.environ, **environment}, cwd=tmp_path,
                          capture_output=True, text=True).stdout
    assert Path(said.strip()) == package / "conv3x3.py"
    assert (package / "conv3x3.py").resolve() == BENCHMARKS.parent / "kernels" / "conv3x3.py"
    # A build that was carried comes before the one of this machine.
    assert (package / "_C.abi3.so").resolve() == carried


def test_the_revision_without_git(check, monkeypatch):
    monkeypatch.setenv("DAN_FAST_REVISION", "abc")
    assert check.revision() == "abc"
    monkeypatch.delenv("DAN_FAST_REVISION")
    monkeypatch.setenv("PATH", "")
    assert check.revision() == "unknown"


def test_triton_s_cache_is_filled_without_a_gpu(tmp_path):
    """All of it takes minutes: here two operators, in a process of their own."""
    pytest.importorskip("triton")
    program = """
import sys
sys.path.insert(0, "benchmarks")
import gpu_cache, torch
from dan_fast import ops
compiler = gpu_cache.Compiler()
compiler.install()
x = torch.zeros(1, 32, 8, 8, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
ops.modulate(x, x, torch.zeros(1, 32), torch.zeros(32))
ops.estimator_tail(x, *(torch.zeros(*size) for size in ((64, 32, 3, 3), (64,), (9, 64), (9,), (9, 2))))
print(dict(compiler.launches), {kernel.metadata.target.arch for kernel in compiler.kernels.values()})
"""
    stub = tmp_path / "stub"
    stub.mkdir()
    subprocess.run(["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-xc", "-", "-o", stub / "libcuda.so.1"],
                   input=b"int stub(void) { return 0; }", check=True)
    result = subprocess.run(
        [sys.executable, "-c", "import os, sys; sys.setdlopenflags(os.RTLD_LAZY)\n" + program], cwd=BENCHMARKS.parent,
        capture_output=True, text=True,
        env={**os.environ, "TRITON_CACHE_DIR": str(tmp_path / "cache"), "TRITON_LIBCUDA_PATH": str(stub),
             "LD_LIBRARY_PATH": str(stub), "DAN_FAST_STUB": str(stub)})
    assert result.stdout.strip() == "{'forward_kernel': 1, 'sum_kernel': 1, 'tail_kernel': 1} {90}", (
        result.stdout + result.stderr[-2000:])
    assert list((tmp_path / "cache").rglob("*.cubin")) and list((tmp_path / "cache").rglob("*.so"))


@pytest.fixture
def tuner(load):
    return load("tune").Tuner(80)


def steps_of(tuner, seconds, wrong=()):
    """A step of two kernels, and a clock: the sum of what ``seconds`` says of the blocks that they were given.

    ``wrong``: what some compute instead of 1.
    """
    wrong = dict(wrong)
    given = {}

    def step():
        for kernel in ("a", "b"):
            candidates = {80: [{"BLOCK": block} for block in (1, 2, 3)], 90: [{"BLOCK": 9}]}
            given[kernel] = tuner.choose(kernel, "small", candidates, torch.device("cpu"))["BLOCK"]
        return [torch.full((3,), wrong.get((kernel, block), 1.0)) for kernel, block in given.items()]

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


@pytest.mark.parametrize("wrong", [1.1, float("nan")])
def test_a_candidate_that_computes_something_else_is_not_chosen(tuner, capsys, wrong):
    seconds = {("a", 1): 3.0, ("a", 2): 1.0, ("a", 3): 2.0, ("b", 1): 1.0, ("b", 2): 1.0, ("b", 3): 1.0}
    step, seconds_of, _ = steps_of(tuner, seconds, {("a", 2): wrong})
    tuner.tune(step, seconds_of)
    assert tuner.better == {("a", "small"): {"BLOCK": 3}}
    assert "a small: {'BLOCK': 2} does not run: its results are" in capsys.readouterr().out


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
