"""The Triton kernels themselves: on a GPU if there is one; ``TRITON_INTERPRET=1 pytest tests/interpreted``: on the CPU.

They need a process of their own, because Triton decides when a kernel is defined whether to interpret it, and then
compiles none. The interpreter takes milliseconds per program: images have at most 16x16 pixels. Tests make their
tensors on torch's default device.
"""

from __future__ import annotations

import os

import pytest
import torch

from dan_fast import ops

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


class _Elsewhere(pytest.Module):
    def collect(self):
        pytest.skip("no GPU; without one a process of its own: TRITON_INTERPRET=1 pytest tests/interpreted",
                    allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent) -> pytest.Module | None:
    runs = INTERPRETED or torch.cuda.is_available()
    return None if runs else _Elsewhere.from_parent(parent, path=module_path)


@pytest.fixture(autouse=True)
def kernels_run(monkeypatch):
    """Operators run their Triton kernels; a value that these forget to write is NaN."""
    pytest.importorskip("triton", reason="triton is not installed")
    if INTERPRETED:
        _mend_interpreter(monkeypatch)
    device, deterministic = torch.get_default_device(), torch.are_deterministic_algorithms_enabled()
    torch.set_default_device("cpu" if INTERPRETED else "cuda")
    # Fills what torch.empty returns with NaN; cuBLAS may stay as it is.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with ops.backend("triton"):
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_default_device(device)


def _mend_interpreter(monkeypatch) -> None:
    """Correct where Triton 3.6's interpreter silently differs from a GPU."""
    import triton.language as tl
    from triton.runtime import interpreter

    patch_tensor, convert_float = interpreter._patch_lang_tensor, interpreter._convert_float

    def tensors_may_bound_loops(tensor, scope) -> None:
        # It calls int() on an array of one value, which numpy 2.4 refuses.
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

    def bfloat16_is_rounded(values, from_type, to_type, mode):
        # It truncates. (It also computes wrongly with bfloat16: kernels convert to float32 first.)
        if (from_type, to_type) != (tl.float32, tl.bfloat16):
            return convert_float(values, from_type, to_type, mode)
        rounded = torch.tensor(values).to(torch.bfloat16)
        return rounded.view(torch.int16).numpy().view("uint16").reshape(values.shape)

    monkeypatch.setattr(interpreter, "_patch_lang_tensor", tensors_may_bound_loops)
    monkeypatch.setattr(interpreter, "_convert_float", bfloat16_is_rounded)


@pytest.fixture
def launched(monkeypatch) -> list[str]:
    """The names of the GPU kernels that the interpreter is asked to run, in order."""
    from triton.runtime.interpreter import InterpretedFunction

    names, run = [], InterpretedFunction.run

    def noted(self, *arguments, **options):
        names.append(self.fn.__name__)
        return run(self, *arguments, **options)

    monkeypatch.setattr(InterpretedFunction, "run", noted)
    return names
