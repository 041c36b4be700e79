"""The choice of an operator's backend: automatic, by name, and the errors when it cannot run."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import SimpleNamespace

import dan_fast_kernels
import pytest
import torch

from dan_fast.errors import DanFastError
from dan_fast.ops import backend, blur_downsample, condition_path, modulate
from dan_fast.ops import blur_downsample as blur_op
from dan_fast.ops.backend import BACKENDS, VARIABLE, choose

CPU = torch.ones(2)
GPU = SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.float32)  # choose looks at nothing else

# "from dan_fast.ops import backend" is the function, as in dan_fast.ops.backend(…).
module = sys.modules["dan_fast.ops.backend"]


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def all_there(monkeypatch):
    """A machine with the extension, built with CUDA, Triton and a GPU."""
    monkeypatch.setattr(module, "why_no_triton", lambda: "")
    monkeypatch.setattr(module, "interpreting", lambda: False)
    monkeypatch.setattr(module, "_why_no_cpp", lambda op, tensors: "")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))


@pytest.mark.parametrize("tensor, has, expected", [
    (GPU, BACKENDS, "triton"), (GPU, ("torch", "cpp"), "cpp"), (GPU, ("torch",), "torch"),
    (CPU, BACKENDS, "cpp"), (CPU, ("torch", "triton"), "torch"),
], ids=str)
def test_automatic(all_there, tensor, has, expected):
    assert choose("op", has, tensor, None) == expected
    with backend("auto"):
        assert choose("op", has, tensor) == expected


def test_automatic_leaves_out_what_cannot_run(all_there, monkeypatch):
    assert choose("op", BACKENDS, GPU, triton_refuses="C is 7") == "cpp"
    assert choose("op", BACKENDS, GPU, SimpleNamespace(device=GPU.device, dtype=torch.float64)) == "cpp"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert choose("op", BACKENDS, GPU) == "cpp"
    monkeypatch.setattr(module, "_why_no_cpp", lambda op, tensors: "not built")
    assert choose("op", BACKENDS, GPU) == "torch"


@pytest.mark.parametrize("asked, has, expected", [
    (["torch"], BACKENDS, "torch"), (["cpp"], BACKENDS, "cpp"), (["triton"], BACKENDS, "triton"),
    (["triton", "cpp"], ("torch", "cpp"), "cpp"), (["cpp", "triton"], ("torch", "triton"), "triton"),
    (["triton", "auto"], ("torch", "cpp"), "cpp"),
], ids=str)
def test_by_name(all_there, monkeypatch, asked, has, expected):
    with backend(*asked):
        assert choose("op", has, GPU) == expected
    monkeypatch.setenv(VARIABLE, " , ".join(asked))
    assert choose("op", has, GPU) == expected


def test_nests_and_beats_the_variable(all_there, monkeypatch):
    monkeypatch.setenv(VARIABLE, "cpp")
    with backend("torch"):
        with backend("triton"):
            assert choose("op", BACKENDS, GPU) == "triton"
        assert choose("op", BACKENDS, GPU) == "torch"
        with pytest.raises(ZeroDivisionError), backend("triton"):
            _ = 1 / 0
        assert choose("op", BACKENDS, GPU) == "torch"
    assert choose("op", BACKENDS, GPU) == "cpp"


def test_threads_do_not_see_each_other(all_there):
    seen = []
    with backend("torch"):
        thread = threading.Thread(target=lambda: seen.append(choose("op", BACKENDS, GPU)))
        thread.start()
        thread.join()
    assert seen == ["triton"]


OPERATORS = {
    "blur_downsample": lambda: blur_downsample(torch.rand(1, 1, 8, 8, requires_grad=True), torch.rand(1, 3, 3), 2),
    "modulate": lambda: modulate(*(torch.rand(1, 2, 3, 3, requires_grad=True) for _ in range(2)), torch.rand(1, 2)),
    "condition_path": lambda: condition_path(
        torch.rand(1, 3, requires_grad=True), torch.rand(4, 3), torch.rand(4), torch.rand(2, 4, 4), torch.rand(2, 4),
        torch.rand(2, 4, 4), torch.rand(2, 4), 1, "plain"),
}


@pytest.mark.parametrize("op", OPERATORS)
def test_backward_passes_are_computed_as_their_forward(monkeypatch, op):
    """In any thread: on a GPU the backward pass does not run in the caller's."""
    seen = []
    for name in OPERATORS:
        monkeypatch.setattr(sys.modules[f"dan_fast.ops.{name}"], "choose", lambda op, has, *tensors, **_: (
            seen.append((op, choose(op, has, *tensors))) or "torch"))
    monkeypatch.setattr(module, "why_no_triton", lambda: "")
    monkeypatch.setattr(module, "interpreting", lambda: True)
    asked = "torch" if op == "blur_downsample" else "triton"
    with backend(asked):
        out = OPERATORS[op]()
    thread = threading.Thread(target=out.sum().backward)
    thread.start()
    thread.join()
    # blur_downsample asks again only on a GPU.
    assert seen == [(op, asked)] * (1 if op == "blur_downsample" else 2)


def test_a_compiled_function_does_not_bake_it_in():
    def function(x):
        with backend("torch"):
            return modulate(x, x, x[:, :, 0, 0])

    with pytest.raises(torch._dynamo.exc.TorchDynamoException):
        torch.compile(function, fullgraph=True, backend="eager")(torch.rand(1, 2, 3, 3))


@pytest.mark.parametrize("asked", ["", "gpu", "triton,gpu", ","])
def test_names_that_do_not_exist(monkeypatch, asked):
    with pytest.raises(DanFastError, match="auto, torch, cpp, triton"), backend(*asked.split(",")):
        pass
    with pytest.raises(DanFastError, match="names no backend"), backend():
        pass
    if asked:
        monkeypatch.setenv(VARIABLE, asked)
        with pytest.raises(DanFastError, match=f"{VARIABLE}={asked}"):
            choose("op", BACKENDS, CPU)


def test_a_backend_that_the_operator_does_not_have(all_there):
    with backend("triton"), pytest.raises(DanFastError, match=r"backend\('triton'\): op has torch, cpp.*triton,auto"):
        choose("op", ("torch", "cpp"), GPU)


@pytest.mark.parametrize("tensor, changes, says", [
    (CPU, {}, "an argument is on cpu and Triton needs a GPU"),
    (GPU, {"why_no_triton": lambda: "triton is not installed"}, "triton is not installed"),
    (SimpleNamespace(device=GPU.device, dtype=torch.float64), {}, "float64"),
], ids=["cpu", "no triton", "float64"])
def test_triton_by_name_says_why_it_cannot(all_there, monkeypatch, tensor, changes, says):
    for name, value in changes.items():
        monkeypatch.setattr(module, name, value)
    with backend("triton"), pytest.raises(DanFastError, match=f"op cannot be computed by triton here: .*{says}"):
        choose("op", BACKENDS, tensor)


def test_triton_by_name_says_what_the_kernel_refuses(all_there):
    with backend("triton"), pytest.raises(DanFastError, match="C is 7"):
        choose("op", BACKENDS, GPU, triton_refuses="C is 7")


def test_triton_on_the_cpu_when_interpreting(all_there, monkeypatch):
    monkeypatch.setattr(module, "interpreting", lambda: True)
    assert choose("op", ("torch", "triton"), CPU) == "torch"
    with backend("triton"):
        assert choose("op", BACKENDS, CPU) == "triton"


def test_cpp_by_name_without_the_extension(monkeypatch):
    monkeypatch.setattr(dan_fast_kernels, "EXTENSION", None)
    monkeypatch.setattr(dan_fast_kernels, "WHY_NOT", "it went away")
    with backend("cpp"), pytest.raises(DanFastError, match="blur_downsample cannot be computed by cpp here: it went"):
        blur_downsample(torch.rand(1, 1, 8, 8), torch.rand(1, 3, 3), 2)


def test_cpp_for_a_device_that_it_was_not_built_for(monkeypatch):
    monkeypatch.setattr(dan_fast_kernels, "EXTENSION", "x.so")
    monkeypatch.setattr(torch._C, "_dispatch_has_kernel_for_dispatch_key", lambda name, key: key == "CPU")
    with backend("cpp"):
        assert choose("op", ("torch", "cpp"), CPU) == "cpp"
        with pytest.raises(DanFastError, match="without code for cuda"):
            choose("op", ("torch", "cpp"), GPU)


@pytest.mark.parametrize("compiled", [False, True])
def test_blur_downsample_follows(monkeypatch, compiled):
    """The backend is chosen at every call, compiled or not."""
    if dan_fast_kernels.EXTENSION is None:
        pytest.skip("the extension is not built")
    function = torch.compile(blur_downsample, fullgraph=True, backend="aot_eager") if compiled else blur_downsample
    calls = []
    monkeypatch.setattr(sys.modules[blur_op.__module__], "blur_downsample_ref",
                        lambda hr, kernel, scale: calls.append(1) or hr.new_zeros(1, 1, 4, 4))
    arguments = torch.rand(1, 1, 8, 8), torch.rand(1, 3, 3), 2
    for name, count in (("cpp", 0), ("torch", 1), ("cpp", 1)):
        with backend(name):
            function(*arguments)
        assert len(calls) == count


def test_triton_is_imported_by_nobody_who_does_not_ask():
    code = """
import sys
sys.modules["triton"] = None  # what imports it fails
import torch, dan_fast
x = torch.rand(1, 4, 3, 3)
dan_fast.ops.modulate(x, x, torch.rand(1, 4))
try:
    with dan_fast.ops.backend("triton"):
        dan_fast.ops.modulate(x, x, torch.rand(1, 4))
except dan_fast.errors.DanFastError as error:
    assert "triton" in str(error), error
else:
    raise SystemExit("no error")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
