"""A wheel: its metadata, its content, and that it runs where there is no compiler. ``nox -t wheel`` tries real ones."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import cv2
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
SOURCES = ("csrc", "dan_fast", "kernels", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")
ALONE = {"PATH": "/nonexistent", "HOME": "/nonexistent"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel without the extension, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "dist", "."],
                   check=True, cwd=folder, env={**os.environ, "DAN_FAST_EXTENSION": "0"})
    file, = (folder / "dist").glob("*.whl")
    return file


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A folder with the wheel alone; what it depends on is in this environment."""
    folder = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder),
                    str(wheel)], check=True)
    return folder


def test_without_the_extension_it_fits_every_platform(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")


def requirements(wheel: Path) -> dict[str, Requirement]:
    """What the wheel depends on, without extras, by name."""
    with zipfile.ZipFile(wheel) as archive:
        name, = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist")
    found = [Requirement(line) for line in lines]
    return {requirement.name: requirement for requirement in found if requirement.marker is None}


def test_it_allows_the_oldest_and_newer_torches(wheel):
    allowed = requirements(wheel)["torch"].specifier
    assert "2.10.0" not in allowed
    assert all(version in allowed for version in ("2.11.0", "2.13.0", "2.15.0", "3.0.0"))


def test_it_takes_the_opencv_without_a_desktop(wheel):
    assert {name for name in requirements(wheel) if name.startswith("opencv")} == {"opencv-python-headless"}


def test_it_holds_all_that_is_in_the_packages(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    ours = {("dan_fast", path) for path in (ROOT / "dan_fast").rglob("*")}
    ours |= {("dan_fast_kernels", path) for path in (ROOT / "kernels").rglob("*")}
    expected = {f"{package}/{path.relative_to(ROOT / package.replace('dan_fast_', '')).as_posix()}"
                for package, path in ours
                if path.is_file() and path.suffix not in (".pyc", ".so")}
    assert held == expected


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "dan_fast.cli", *arguments], capture_output=True, text=True,
                          cwd=site, env={**ALONE, "PYTHONPATH": str(site)})


def test_doctor_says_what_is_missing(site):
    said = run(site, "doctor")
    assert said.returncode == 0 and said.stderr == ""
    assert f"not active: {site / 'dan_fast_kernels'} has no compiled extension" in said.stdout


def test_it_upscales_without_a_compiler(site, tmp_path):
    photo = cv2.imread(str(ROOT / "dan_fast/samples/dog.png"))[:40, :48]
    cv2.imwrite(str(tmp_path / "dog.png"), photo)
    said = run(site, "upscale", str(tmp_path / "dog.png"), "-o", str(tmp_path / "out"))
    assert said.returncode == 0, said.stderr
    assert cv2.imread(str(tmp_path / "out/dog_x4.png")).shape == (160, 192, 3)
