"""``correlate``, the arithmetic of ``blur_downsample`` on the CPU: every instruction set that this machine has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).with_name("correlate_paths.cpp")


def test_every_instruction_set(tmp_path):
    """Compiled with sanitizers: the program stops at any access outside a buffer."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the test program")
    program = tmp_path / "paths"
    command = [compiler, "-std=c++17", "-O3", "-Wall", "-Wextra", "-Werror", "-fno-sanitize-recover=all"]
    result = subprocess.run([*command, "-fsanitize=address,undefined", str(SOURCE), "-o", str(program)],
                            capture_output=True, text=True)
    if "cannot find" in result.stderr:
        pytest.skip("g++ has no sanitizers here")
    assert result.returncode == 0, result.stderr
    result = subprocess.run([program], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    capability = torch.backends.cpu.get_cpu_capability()
    expected = {"AVX2": ["avx2"], "AVX512": ["avx2", "avx512"]}.get(capability, [])
    assert result.stdout.split() == ["default", *expected]
