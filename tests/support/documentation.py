"""Commands and Python code in the pages of the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
_COMMAND = re.compile(r"(dan-fast |python -m dan_fast\.)\S")


class Documented(NamedTuple):
    """A command or Python code on a page.

    Attributes:
        page: relative to the repository.
        text: one line, without a comment, for commands.
        inline: it stands within a sentence, and need not be a whole command.
    """

    page: str
    text: str
    inline: bool = False


def commands() -> list[Documented]:
    """All commands on all pages that begin with ``dan-fast`` or ``python -m dan_fast.``."""
    found = []
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        text = _FENCED.sub(lambda fence: "" if fence[1] else _indented(fence[2]), page.read_text(encoding="utf-8"))
        blocks = re.sub(r"\\\n\s*", " ", "\n".join(re.findall(r"^ {4,}.*(?:\n|$)", text, re.M)))
        found += [Documented(name, _without_comment(line)) for line in map(str.strip, blocks.split("\n"))
                  if _COMMAND.match(line)]
        prose = re.sub(r"^ {4,}.*$", "", text, flags=re.M)
        found += [Documented(name, span, True) for span in (" ".join(code.split()) for code in
                                                            re.findall(r"`([^`]+)`", prose)) if _COMMAND.match(span)]
    return found


def python_blocks() -> list[Documented]:
    """All fenced blocks of Python on all pages."""
    return [Documented(page.relative_to(ROOT).as_posix(), code) for page in PAGES
            for language, code in _FENCED.findall(page.read_text(encoding="utf-8")) if language == "python"]


def _indented(text: str) -> str:
    return "\n" + "".join(f"    {line}\n" for line in text.splitlines())


def _without_comment(line: str) -> str:
    return re.sub(r"\s+#\s.*$", "", line)
