"""``dan-fast doctor --gpu`` as far as it goes without a GPU: verdicts, processes that end, what is printed."""

from __future__ import annotations

import json
import os
import sys

import pytest
import torch
from dan_fast_kernels.without import PARTS, VARIABLE

from dan_fast import cli, doctor, self_test
from dan_fast.ops import example_calls
from dan_fast.self_test import Verdict

# In the place of the process that checks the parts. The part "kills" ends it; "says" gives as its reason the parts that
# are left out.
CHILD = """
import json, os, sys, time
for part in sys.argv[1:]:
    if part == "kills":
        print("an illegal memory access", flush=True)
        os._exit(134)
    if part == "sleeps":
        time.sleep(600)
    reason = {"wrong": "off by 3", "says": os.environ["DAN_FAST_WITHOUT"]}.get(part, "")
    print("noise", flush=True)
    print(json.dumps({"part": part, "reason": reason}), flush=True)
"""


@pytest.fixture
def child(monkeypatch):
    monkeypatch.setattr(self_test, "_COMMAND", (sys.executable, "-c", CHILD))


def test_verdicts_come_one_by_one(child):
    assert list(self_test.self_test(("good", "wrong", "fine"))) == [
        Verdict("good", ""), Verdict("wrong", "off by 3"), Verdict("fine", "")]


def test_a_part_that_ends_its_process_costs_only_itself_and_is_left_out_afterwards(child):
    found = list(self_test.self_test(("good", "wrong", "kills", "says", "good")))
    assert [verdict.part for verdict in found] == ["good", "wrong", "kills", "says", "good"]
    assert found[2].reason == "its process ended with exit code 134 (an illegal memory access)"
    assert found[3].reason == "wrong,kills"


def test_a_part_that_hangs_costs_only_itself(child, monkeypatch):
    monkeypatch.setattr(self_test, "SECONDS", 3)
    found = dict(self_test.self_test(("good", "sleeps", "fine")))
    assert found["good"] == found["fine"] == "" and found["sleeps"].startswith("its process ended with exit code -9")


def test_whatever_a_part_raises_is_its_verdict(monkeypatch, capsys):
    def check(part, device):
        if part == "modulate":
            raise RuntimeError("CUDA error:\nno kernel image")
        return {"descriptors": "wrong"}.get(part, "")
    monkeypatch.setattr(self_test, "check", check)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setenv(VARIABLE, "")
    self_test._main(("conv3x3", "modulate", "descriptors"), torch.device("cpu"))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"part": "conv3x3", "reason": ""}, {"part": "modulate", "reason": "RuntimeError: CUDA error: no kernel image"},
        {"part": "descriptors", "reason": "wrong"}]


def test_every_part_has_a_test():
    """GPU kernels of operators are found by name; each other part has a function of its own."""
    names = {call.operator.__name__ for config in self_test.NETWORKS
             for call in example_calls.calls(config, 1, 3, 3, torch.float32, "meta")}
    parts = {self_test._PARTS.get(name, name) for name in names}
    assert parts | set(self_test._CHECKS) == set(PARTS) and parts & set(self_test._CHECKS) == {"conv3x3"}


def test_plans_and_graphs_where_there_is_no_gpu():
    """The comparison itself: on a CPU both sides are the same."""
    assert self_test.check("training_plan", torch.device("cpu")) == ""
    assert self_test.check("training_graphs", torch.device("cpu")) == ""
    assert self_test.check("inference_graphs", torch.device("cpu")) == "no pass was replayed"
    assert VARIABLE not in os.environ  # it was not set before


@pytest.mark.parametrize("found, code, says", [
    ([("conv3x3", ""), ("modulate", "")], 0, "All are fit.\n"),
    ([("conv3x3", "off by 2"), ("modulate", ""), ("descriptors", "no")], 1,
     "DAN_FAST_WITHOUT=conv3x3,descriptors leaves out what is not fit; other code does its work, slower.\n"),
])
def test_the_command_says_what_to_leave_out(found, code, says, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(self_test, "self_test", lambda: (Verdict(*one) for one in found))
    assert cli.main(["doctor", "--gpu"]) == code
    printed = capsys.readouterr().out
    assert printed.startswith("Parts on a card\n") and printed.endswith(says)
    assert ("  conv3x3             not fit: off by 2\n" in printed) == bool(code)
    assert "  modulate            fit\n" in printed


def test_without_a_gpu_there_is_nothing_to_try(capsys):
    if not doctor.why_no_gpu():
        pytest.skip("there is a GPU")
    assert cli.main(["doctor", "--gpu"]) == 2
    assert capsys.readouterr().err.startswith("dan-fast doctor: error: --gpu: there is no GPU to try: torch ")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu():
    assert {verdict.part: verdict.reason for verdict in self_test.self_test()} == dict.fromkeys(PARTS, "")
