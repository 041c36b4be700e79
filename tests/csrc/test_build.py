"""setup.py and the kernels package: clear words when something is missing, instead of a crash."""

from __future__ import annotations

import runpy
import shutil
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


def loaded_in(folder: Path) -> tuple[Path | None, str]:
    """The extension that a copy of the kernels package finds, and the reason if it finds none."""
    shutil.copy(dan_fast_kernels.__file__, folder / "__init__.py")
    return runpy.run_path(str(folder / "__init__.py"))["_load"]()


def test_a_missing_extension_is_a_reason(tmp_path):
    extension, why_not = loaded_in(tmp_path)
    assert extension is None and "no compiled extension" in why_not


def test_an_extension_that_does_not_load_is_a_reason(tmp_path):
    (tmp_path / f"_C{EXTENSION_SUFFIXES[0]}").write_bytes(b"not a library")
    extension, why_not = loaded_in(tmp_path)
    assert extension is None and f"does not load with torch {torch.__version__}" in why_not
