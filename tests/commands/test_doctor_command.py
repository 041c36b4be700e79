import dan_fast_kernels
import pytest
import torch
from support.json_output import objects

from dan_fast import available, doctor
from dan_fast.cli import main


def test_json_says_what_the_tables_say(capsys):
    assert main(["doctor", "--json"]) == 0
    (found,) = objects(capsys.readouterr().out)
    assert found["versions"]["torch"] == torch.__version__
    assert found["cpu"]["threads"] == torch.get_num_threads()
    assert [(part["name"], part["active"], part["reason"], part["advice"] or "") for part in found["parts"]] == [
        (part.name, part.active, part.reason, part.advice) for part in doctor.parts()]
    assert found["weights"]["names"] == available()
    assert len(found["gpus"]) == torch.cuda.device_count()
    assert found["checks"] is None


def test_json_of_an_inactive_part(capsys, monkeypatch):
    monkeypatch.setattr(dan_fast_kernels, "EXTENSION", None)
    monkeypatch.setattr(dan_fast_kernels, "WHY_NOT", "it went away")
    assert main(["doctor", "--json"]) == 0
    (found,) = objects(capsys.readouterr().out)
    assert found["parts"][0]["active"] is False and "it went away" in found["parts"][0]["reason"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_json_without_a_gpu_to_try(capsys):
    assert main(["doctor", "--gpu", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "there is no GPU to try" in printed.err


@pytest.mark.parametrize(("reason", "code"), [("", 0), ("its process ended with exit code -9", 1)])
def test_json_with_checks(capsys, monkeypatch, reason, code):
    """The verdicts stand in for those of a GPU."""
    from dan_fast import self_test

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(doctor, "parts", list)
    monkeypatch.setattr(self_test, "self_test",
                        lambda: iter([self_test.Verdict("conv3x3", ""), self_test.Verdict("dpcg", reason)]))
    assert main(["doctor", "--gpu", "--json"]) == code
    (found,) = objects(capsys.readouterr().out)
    assert found["checks"] == [{"part": "conv3x3", "fit": True, "reason": None},
                               {"part": "dpcg", "fit": not reason, "reason": reason or None}]
