"""Docstrings and comments are sentences that one reads once (CONTRIBUTING, house rules): finds only the worst."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("dan_fast", "kernels", "csrc", "benchmarks", "tests")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*")
               if path.suffix in (".py", ".h", ".cpp", ".cu", ".cuh"))
# A genitive without what it belongs to; words that stand for an argument; "per" in other words.
FORBIDDEN = re.compile(r"^Of (?!course\b)|\b[Ss]o many\b|\bwhosever\b|"
                       r"\b[Oo]ne an? (image|pixel|file|thread|block|type)\b")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring and comment; comments on lines that follow each other are one text."""
    source = path.read_text()
    if path.suffix != ".py":
        for found in re.finditer(r"(?:^[ \t]*//[^\n]*\n)+|//[^\n]*", source, re.M):
            yield source.count("\n", 0, found.start()) + 1, re.sub(r"\s*//\s?", " ", found[0]).strip()
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
            yield getattr(node, "lineno", 1), text
    comments: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text, alone = token.string.lstrip("# "), not token.line[:token.start[1]].strip()
            if alone and comments and comments[-1][0] == token.start[0] - 1:
                comments[-1] = token.start[0], f"{comments[-1][1]} {text}"
            else:
                comments.append((token.start[0], text))
    yield from comments


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_sentences(path):
    wrong = [f"line {line}: {text[:90]}" for line, text in texts(path)
             if path != Path(__file__) and FORBIDDEN.search(text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("text", ["Of every block the gradients", "Channels are taken in panels of so many"])
def test_they_would_be_found(tmp_path, text):
    path = tmp_path / "a.py"
    path.write_text(f'"""{text}."""\n# {text}\n')
    assert len([found for _, found in texts(path) if FORBIDDEN.search(found)]) == 2
