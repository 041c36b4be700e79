"""Every CUDA source compiles for every card that ships, with the flags of the real build, without spills.

Needs nvcc, but neither a GPU nor a CUDA build of torch. ``pytest -s`` prints what every kernel takes.
"""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path

import pytest
import setuptools
from torch.utils import cpp_extension

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "csrc").rglob("*.cu"))


@pytest.fixture(scope="module")
def nvcc() -> list[str]:
    """nvcc and the flags that setup.py and torch's BuildExtension give it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **_: None)
        patch.setenv("DAN_FAST_EXTENSION", "0")
        build = runpy.run_path(str(ROOT / "setup.py"))
    cuda = build["find_cuda"]()
    if cuda is None:
        pytest.skip("no CUDA compiler: nvcc and its headers are not installed")
    macros = [f"-D{name}" + (f"={value}" if value else "") for name, value in [*build["MACROS"], ("USE_CUDA", None)]]
    # COMMON_NVCC_FLAGS switch the operators of half and bfloat16 off: what compiles without them may not with them.
    return [f"{cuda}/bin/nvcc", *build["NVCC_FLAGS"], *cpp_extension.COMMON_NVCC_FLAGS, *macros,
            "-DTORCH_EXTENSION_NAME=_C", "-Xcompiler=-fPIC",
            *(f"-I{folder}" for folder in cpp_extension.include_paths())]


def compile_source(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stderr


def test_there_are_sources():
    assert SOURCES


def kernels_in(log: str) -> dict[str, dict[str, int]]:
    """Every kernel's bytes of stack, spilled bytes, registers and bytes of static shared memory, from ptxas."""
    kernels = {}
    for name, report in re.findall(r"Compiling entry function '(\w+)'(.*?Used .*?)$", log, re.DOTALL | re.MULTILINE):
        def number(pattern: str, report=report) -> int:
            found = re.search(pattern, report)
            return int(found[1]) if found else 0

        assert "bytes stack frame" in report and "spill stores" in report, report
        kernels[name] = {"stack": number(r"(\d+) bytes stack frame"), "shared": number(r"(\d+) bytes smem"),
                         "spills": number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
                         "registers": number(r"Used (\d+) registers")}
    return kernels


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_no_kernel_spills(nvcc, source, architecture, tmp_path):
    log = compile_source([*nvcc, f"-arch={architecture}", "-cubin", "-Xptxas=-v", "-o", str(tmp_path / "k.cubin"),
                          str(source)])
    kernels = kernels_in(log)
    assert len(kernels) == log.count("Compiling entry function") > 0, log
    for name, needs in kernels.items():
        print(f"{architecture} {needs} {name}")
        # A stack frame without spills is an array that was indexed with a variable: as slow. Dynamic shared memory
        # is not in the log: a static_assert beside the kernels holds it below the limit.
        assert needs["spills"] == needs["stack"] == 0, f"{name}: {needs}"
        assert needs["shared"] <= 48 * 1024 and 0 < needs["registers"] < 255, f"{name}: {needs}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_host_side_and_ptx_compile(nvcc, source, tmp_path):
    # -cubin skips the host side: the launches and torch's headers.
    target = tmp_path / "k.o"
    compile_source([*nvcc, "-gencode=arch=compute_80,code=compute_80", "-c", "-o", str(target), str(source)])
    assert target.stat().st_size > 0
