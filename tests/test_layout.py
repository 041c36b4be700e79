"""The rooms of dan_fast/: each may import those on the floors below, as CONTRIBUTING.md says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dan_fast"
# From the ground floor up. Rooms on one floor know nothing of each other.
FLOORS = (
    ("errors",),
    ("config", "files", "runtime"),
    ("blur_kernels", "image_files"),
    ("model", "ops"),
    ("checkpoint", "degradation"),
    ("fast_model",),
    ("inference",),
    ("evaluation",),
    ("metrics", "training"),
    ("doctor", "experiments", "report", "self_test"),
    ("command_line",),
    ("commands",),
    ("cli",),
    ("train",),
)
HEIGHT = {room: height for height, floor in enumerate(FLOORS) for room in floor}


def room(module: str) -> str:
    """The room of ``dan_fast.room.file``; of ``dan_fast`` itself nothing."""
    return [*module.split("."), ""][1]


def imports(path: Path, for_types: bool = False) -> set[str]:
    """The rooms that a file imports, inside of functions too; ``for_types``: and what only type checkers read."""
    package = ("dan_fast", *path.relative_to(PACKAGE).parts[:-1])
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_types:
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *filter(None, (node.module,))))
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "dan_fast" else {module}
    return {room(module) for module in found if module.startswith("dan_fast.")} - {""}


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_every_room_is_on_a_floor() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms == set(HEIGHT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    here = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    wrong = {there for there in imports(path) - {here} if HEIGHT.get(there, 99) >= HEIGHT[here]}
    assert not wrong, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(wrong))}, which is not below {here}"


@pytest.mark.parametrize(("here", "there"), [("model", "ops"), ("ops", "model")])
def test_operators_and_the_plain_model_know_nothing_of_each_other(here: str, there: str) -> None:
    """Not even each other's types: ``fast_model`` alone takes weights out of modules and hands them to operators."""
    wrong = [path.name for path in (PACKAGE / here).glob("*.py") if there in imports(path, for_types=True)]
    assert not wrong, f"{', '.join(wrong)} of {here} imports {there}"
