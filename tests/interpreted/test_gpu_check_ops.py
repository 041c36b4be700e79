"""gpu-check's section on operators, in the interpreter: it judges every configuration."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch
from dan_fast_kernels import configs, conv3x3

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def rows(monkeypatch, tmp_path):
    """The rows that the section notes for a tiny image with 32 channels, on a GPU of this capability."""
    if torch.get_default_device().type != "cpu":
        pytest.skip("gpu-check itself does it on a GPU")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("OUT", str(tmp_path))
    figures, section = (importlib.import_module(name) for name in ("figures", "sections.ops"))
    for module, name, value in ((figures, "DRY", True), (figures, "DEVICE", torch.device("cpu")),
                                (section, "DRY", False), (section, "DEVICE", torch.device("cpu"))):
        monkeypatch.setattr(module, name, value)

    def noted(capability: int) -> list[dict]:
        monkeypatch.setattr(configs, "capability", lambda device: capability)
        monkeypatch.setattr(configs, "starts_early", lambda device: False)
        section._convolution(32, "tiny", 1, 9, 17)
        found = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
        return [row for row in found if "config" in row]
    return noted


@pytest.mark.parametrize("capability", [80, 90])
def test_every_configuration_is_right(rows, capability):
    found = rows(capability)
    image = torch.zeros(1, 32, 9, 17, dtype=torch.bfloat16)
    expected = list(map(str, configs.candidates_for(conv3x3.candidates(image), capability)))
    assert {row["what"] for row in found} == {"lrelu", "add"} and {row["config"] for row in found} >= set(expected)
    assert all(row["error"] < 1e-2 and "WRONG" not in row for row in found)


@pytest.mark.parametrize("wrong", [lambda found: found * 1.1, torch.empty_like], ids=["a factor", "not written"])
def test_a_wrong_one_is_said_to_be_wrong(rows, monkeypatch, wrong):
    right = conv3x3.bias_lrelu
    monkeypatch.setattr(conv3x3, "bias_lrelu", lambda *arguments, **options: wrong(right(*arguments, **options)))
    for row in rows(80):
        assert ("WRONG" in row) == (row["what"] == "lrelu")
