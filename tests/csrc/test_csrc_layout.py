"""The folders of csrc/: which of them include which, and no name of a class twice in a namespace."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
# Each folder may include its own files and those of the folders that are named behind it.
MAY_INCLUDE = {
    "common": (),
    "pointwise": ("common",),
    "blur_downsample": ("common",),
    "blur_downsample/cuda": ("common", "blur_downsample"),
    "conv3x3": ("common", "pointwise"),
}
# Plain arithmetic, which tests compile without torch and with other instruction sets.
WITHOUT_TORCH = ("blur_downsample/correlate.cpp", "blur_downsample/direct.h", "blur_downsample/fast_fir.cpp",
                 "blur_downsample/rows.cpp", "blur_downsample/separable.h", "blur_downsample/cuda/kernels.cuh",
                 "conv3x3/conv3x3.cpp", "conv3x3/conv3x3_weight_gradient.cpp", "conv3x3/dpcb_stack.h", "conv3x3/dpcg.h",
                 "conv3x3/crb_stack.h")
CLASS = re.compile(r"^(?:template <.*> )?(?:struct|class|enum class) (?:alignas\(\w+\) )?(\w+)[^;]*\{", re.M)
FILES = sorted(path for path in CSRC.rglob("*") if path.suffix in (".h", ".cpp", ".cu", ".cuh"))


def name(path: Path) -> str:
    return str(path.relative_to(CSRC))


def included(path: Path) -> list[Path]:
    """The files of csrc/ that a file includes itself."""
    return [(path.parent / found).resolve() for found in re.findall(r'^#include "([^"]+)"', path.read_text(), re.M)]


def test_every_folder_is_listed():
    assert {str(path.parent.relative_to(CSRC)) for path in FILES} == set(MAY_INCLUDE)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_includes_go_down(path):
    folder = str(path.parent.relative_to(CSRC))
    for found in included(path):
        assert found in FILES, f"{name(path)} includes {found}, which is not in csrc/"
        there = str(found.parent.relative_to(CSRC))
        assert there in (folder, *MAY_INCLUDE[folder]), f"{name(path)} includes {name(found)}"


def test_no_file_includes_itself():
    def reached(path: Path, way: tuple[Path, ...]) -> None:
        assert path not in way, " -> ".join(map(name, (*way, path)))
        for found in included(path):
            reached(found, (*way, path))
    for path in FILES:
        reached(path, ())


@pytest.mark.parametrize("path", WITHOUT_TORCH)
def test_arithmetic_knows_no_torch(path):
    left, seen = [CSRC / path], set()
    while left:
        if (file := left.pop()) not in seen:
            seen.add(file)
            left += included(file)
            assert "#include <torch/" not in file.read_text(), f"{path} includes {name(file)}, which includes torch"


def test_no_class_has_the_name_of_another():
    """Two classes of one name in one namespace must not be in one program."""
    homes = defaultdict(set)
    for path in FILES:
        text = path.read_text()
        space = re.search(r"^namespace (\S+) \{", text, re.M)
        inner = re.findall(r"^namespace (\w+) \{", text, re.M)
        for kind in CLASS.findall(text):
            homes[space and space[1], tuple(inner), kind].add(name(path))
    assert len(homes) > 25
    assert not {kind: places for kind, places in homes.items() if len(places) > 1}
