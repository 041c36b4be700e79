"""The texts of all errors for users that the package raises, found in its source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[2] / "dan_fast"
ERRORS = ("DanFastError", "ImageError", "CheckpointError", "ToolError")
VARIES = "…"  # stands for what varies in a text


class Raised(NamedTuple):
    """The text of an error, with ``…`` for what varies.

    Attributes:
        place: file and line, relative to the repository.
        text: one line.
    """

    place: str
    text: str


def raised(package: Path = PACKAGE) -> list[Raised]:
    """All texts with which an error of ``ERRORS`` is made, but those that are all another error's text."""
    found = []
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {target.id: node.value for node in tree.body if isinstance(node, ast.Assign)
                 for target in node.targets if isinstance(target, ast.Name)}
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and _name(node.func) in ERRORS and node.args):
                continue
            place = f"{path.relative_to(package.parent).as_posix()}:{node.lineno}"
            argument = node.args[0]
            if isinstance(argument, ast.Name) and argument.id not in named:
                around = [function for function in functions if function.lineno <= node.lineno <= (
                    function.end_lineno or 0)]
                texts = [text for part in _strings_in_tuples(around[-1]) for text in _texts(part, named)]
            else:
                texts = list(_texts(argument, named))
            found += [Raised(place, text) for text in texts if any(map(str.isalpha, text))]
    return found


def _strings_in_tuples(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """The messages of a table, of which a loop raises one."""
    for node in ast.walk(function):
        if isinstance(node, ast.Tuple):
            yield from (part for part in node.elts if isinstance(part, ast.JoinedStr) or (
                isinstance(part, ast.Constant) and isinstance(part.value, str)))


def _name(function: ast.expr) -> str:
    return getattr(function, "id", getattr(function, "attr", ""))


def _texts(node: ast.expr, named: dict[str, ast.expr]) -> Iterator[str]:
    """The texts that an expression can be; of a choice within a text only what surrounds it."""
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body, named)
        yield from _texts(node.orelse, named)
    else:
        text = " ".join(_text(node, named).split())
        while VARIES * 2 in text:
            text = text.replace(VARIES * 2, VARIES)
        yield text


def _text(node: ast.expr, named: dict[str, ast.expr]) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, named)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, named) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, named) + _text(node.right, named)
    if isinstance(node, ast.Name) and node.id in named:
        return _text(named[node.id], named)
    return VARIES
