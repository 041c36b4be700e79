"""``correlate``, the arithmetic of ``blur_downsample`` on the CPU: every instruction set that this machine has."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SOURCE = Path(__file__).with_name("correlate_paths.cpp")


def test_every_instruction_set(tmp_path):
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no g++ on Linux to compile the test program")
    program = tmp_path / "paths"
    command = [compiler, "-std=c++17", "-O3", "-Wall", "-Wextra", "-Werror", str(SOURCE), "-o", str(program)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    result = subprocess.run([program], capture_output=True, text=True)
    assert result.returncode == 0, f"exit code {result.returncode}: {result.stdout}{result.stderr}"
    capability = torch.backends.cpu.get_cpu_capability()
    expected = {"AVX2": ["avx2"], "AVX512": ["avx2", "avx512"]}.get(capability, [])
    assert result.stdout.split() == ["default", *expected]
