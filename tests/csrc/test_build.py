"""setup.py and the kernels package: clear words when something is missing, instead of a crash."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import dan_fast_kernels
import pytest
import setuptools
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run_setup(monkeypatch):
    """``run_setup(NAME=value)``: what setup.py, with this environment, hands to setuptools."""
    calls = []
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: calls.append(arguments))
    monkeypatch.chdir(ROOT)

    def run(**environment: str) -> dict:
        for name in ("DAN_FAST_CUDA", "DAN_FAST_EXTENSION"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        runpy.run_path(str(ROOT / "setup.py"))
        return calls[-1]
    return run


@pytest.mark.parametrize("name", ["DAN_FAST_CUDA", "DAN_FAST_EXTENSION"])
def test_unknown_values_are_refused(run_setup, name):
    with pytest.raises(SystemExit, match=f"{name}='yes', expected one of"):
        run_setup(**{name: "yes"})


def test_cuda_on_a_cpu_build_of_torch_is_refused(run_setup, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(SystemExit, match="needs a CUDA build of torch"):
        run_setup(DAN_FAST_CUDA="1")


def test_every_source_is_built(run_setup):
    (extension,) = run_setup(DAN_FAST_CUDA="0")["ext_modules"]
    assert sorted(extension.sources) == sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("csrc/**/*.cpp"))


def test_without_extension(run_setup):
    assert run_setup(DAN_FAST_EXTENSION="0")["ext_modules"] == []


def test_a_missing_compiler_is_named(run_setup):
    arguments = run_setup(DAN_FAST_CUDA="0")
    distribution = setuptools.Distribution({"ext_modules": arguments["ext_modules"]})
    command = arguments["cmdclass"]["build_ext"](distribution)
    command.ensure_finalized()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="DAN_FAST_EXTENSION=0"):
        patch.setenv("CXX", "no-such-compiler-here")
        command.run()


def test_packages_are_complete():
    """Every folder with Python files is installed."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for path in (ROOT / "dan_fast").rglob("__init__.py")}
    expected = {".".join(folder.relative_to(ROOT).parts) for folder in folders} | {"dan_fast_kernels"}
    assert set(settings["packages"]) == expected


def loaded_in(folder: Path) -> tuple[Path | None, str, str]:
    """The extension that a copy of the kernels package finds, and the reason and advice if it finds none."""
    shutil.copy(dan_fast_kernels.__file__, folder / "__init__.py")
    return runpy.run_path(str(folder / "__init__.py"))["_load"]()


def test_the_names_of_all_operators_are_known():
    defined = {name for path in (ROOT / "csrc").rglob("*.cpp") for name in re.findall(r'm\.def\(\s*"(\w+)',
                                                                                     path.read_text())}
    assert set(dan_fast_kernels.OPERATORS) == defined


def test_a_missing_extension_is_a_reason(tmp_path):
    extension, why_not, advice = loaded_in(tmp_path)
    assert extension is None and "no compiled extension" in why_not and "install a C++ compiler" in advice


def test_an_extension_that_does_not_load_is_a_reason(tmp_path):
    (tmp_path / f"_C{EXTENSION_SUFFIXES[0]}").write_bytes(b"not a library")
    extension, why_not, advice = loaded_in(tmp_path)
    assert extension is None and f"does not load with torch {torch.__version__}" in why_not
    assert advice == dan_fast_kernels.BUILD_AGAIN


def test_an_extension_of_other_sources_is_a_reason(tmp_path):
    """A real library, compiled here, that registers no operator, in a process that has no other."""
    source, library = tmp_path / "old.cpp", tmp_path / f"_C{EXTENSION_SUFFIXES[0]}"
    source.write_text("int old() { return 0; }")
    subprocess.run([os.environ.get("CXX", "c++"), "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    shutil.copy(dan_fast_kernels.__file__, tmp_path / "__init__.py")
    code = f"import runpy; print(runpy.run_path({str(tmp_path / '__init__.py')!r})['_load']())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert f"it lacks {dan_fast_kernels.OPERATORS[0]}" in said and dan_fast_kernels.BUILD_AGAIN in said


@pytest.mark.parametrize(("version", "too_old"), [("2.9.1+cu128", True), ("2.10.0", True), ("2.11.0a0+git1", False),
                                                  ("2.13.0+cpu", False), ("3.0.0", False)])
def test_a_torch_that_is_too_old_is_a_reason(tmp_path, monkeypatch, version, too_old):
    monkeypatch.setattr(torch, "__version__", version)
    _, why_not, advice = loaded_in(tmp_path)
    assert (f"torch {version} is older than 2.11" in why_not) == too_old
    assert ("torch>=2.11" in advice) == too_old
