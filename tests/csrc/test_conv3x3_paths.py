"""The compiled 3x3 convolution for every instruction set: what this machine can run is run, the rest read."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import dan_fast_kernels
import pytest

PATHS = Path(__file__).with_name("conv3x3_paths.cpp")


def compiled(arguments, output):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile with")
    result = subprocess.run([compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", *map(str, arguments), "-o",
                             str(output)], capture_output=True, text=True)
    if "cannot find" in result.stderr:
        pytest.skip("g++ has no sanitizers here")
    assert result.returncode == 0, result.stderr


def test_every_instruction_set(tmp_path):
    """``make asan`` does the same with the address sanitizer, which stops at any access outside a buffer."""
    program = tmp_path / "paths"
    compiled(["-O1", "-pthread", PATHS], program)
    result = subprocess.run([program], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    # The instruction sets of the machine, as Linux tells them; torch's own figure can be lowered by a variable.
    flags = set(re.findall(r"^flags\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.M)[0].split()
                if Path("/proc/cpuinfo").exists() else [])
    sets = {"avx2": {"avx2", "fma"}, "avx512": {"avx512f", "avx512vl"}}
    assert result.stdout.split() == ["default", *(name for name, needed in sets.items() if needed <= flags)]


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump to read machine code with")
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="not an x86 machine")
def test_every_instruction_set_was_built(native):
    """Also those that this machine cannot run."""
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", str(dan_fast_kernels.EXTENSION)],
                          capture_output=True, text=True, check=True).stdout
    def fused(function, register):
        (body,) = re.findall(rf"^[0-9a-f]+ <[^>]*{function}[^>]*>:\n(.*?)\n\n", code, re.M | re.S)
        return len(re.findall(rf"vfmadd\S+ .*%{register}", body))

    for name, register, tiles in (("avx2", "ymm", 6), ("avx512", "zmm", 12)):
        # The largest product alone, unrolled four times, has this many.
        assert all(fused(f"conv3x3_{name}ILi{channels}E", register) >= 4 * tiles * 2
                   for channels in (16, 32, 48, 64, 80))
        assert fused(f"weight_gradient_{name}", register) >= tiles * 2
