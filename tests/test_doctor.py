"""``dan-fast doctor`` reports the machine as it is, with advice that fits it."""

from __future__ import annotations

import dan_fast_kernels
import pytest
import torch

from dan_fast import available, doctor
from dan_fast.cli import main


def part(name: str) -> doctor.Part:
    return next(p for p in doctor.parts() if p.name == name)


def test_command_prints_every_part_and_weight(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for p in doctor.parts():
        assert f"{p.name:<18}{p}" in out
    for name in ("dan_fast", "torch", torch.__version__, "numpy", "opencv", "CPU name", "GPU", *available()):
        assert name in out


def test_parts_are_named_once():
    assert [p.name for p in doctor.parts()] == ["C++ ops", "CUDA ops", "Triton kernels", "CUDA graphs"]


def test_inactive_parts_say_why_and_what_to_do():
    for p in doctor.parts():
        assert p.reason
        assert p.active or p.advice, p.name


def test_cpp_ops_follow_the_extension(monkeypatch):
    assert part("C++ ops").active == (dan_fast_kernels.EXTENSION is not None)
    monkeypatch.setattr(dan_fast_kernels, "EXTENSION", None)
    monkeypatch.setattr(dan_fast_kernels, "WHY_NOT", "it went away")
    monkeypatch.setattr(dan_fast_kernels, "ADVICE", "install a C++ compiler")
    assert str(part("C++ ops")) == "not active: it went away; PyTorch does their work, slower; install a C++ compiler"


@pytest.mark.parametrize("cuda, available, extension, compiled, says", [
    (None, False, "x.so", False, "CUDA build of torch"),
    ("13.0", False, "x.so", False, "nvidia-smi"),
    ("13.0", True, None, False, "DAN_FAST_CUDA=1"),
    ("13.0", True, "x.so", False, "built without CUDA"),
    ("13.0", True, "x.so", True, "active: CUDA 13.0"),
])
def test_cuda_ops_name_what_is_missing(monkeypatch, cuda, available, extension, compiled, says):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(dan_fast_kernels, "EXTENSION", extension)
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda name, key: compiled)
    monkeypatch.setattr(doctor, "why_no_triton", lambda: "not here")
    assert says in str(part("CUDA ops"))
    assert part("CUDA ops").active == compiled


@pytest.mark.parametrize("cuda, available, triton, capability, says", [
    (None, False, "", None, "not active: no GPU"),
    ("13.0", False, "", None, "not active: no GPU"),
    ("13.0", True, "triton is not installed", None, "not active: triton is not installed"),
    ("13.0", True, "", (7, 5), "not active: the GPU has capability 7.5"),
    ("13.0", True, "", (9, 0), "active: triton 3.6.1 on NVIDIA H200"),
])
def test_triton_kernels_need_triton_and_a_gpu(monkeypatch, cuda, available, triton, capability, says):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(doctor, "why_no_triton", lambda: triton)
    monkeypatch.setattr(doctor, "version_of", lambda module: "3.6.1")
    assert str(part("Triton kernels")).startswith(says)


def test_a_package_that_is_missing_or_broken_is_named(monkeypatch, tmp_path):
    assert doctor.version_of("no_such_module_here") == "not installed"
    (tmp_path / "broken_module_here.py").write_text("raise ImportError('libGL.so.1: cannot open')")
    (tmp_path / "needs_other_here.py").write_text("import no_such_module_here")
    monkeypatch.syspath_prepend(tmp_path)
    assert doctor.version_of("broken_module_here") == "does not import: libGL.so.1: cannot open"
    assert doctor.version_of("needs_other_here").startswith("does not import: No module named")
