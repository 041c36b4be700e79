"""What a dataclass's docstring says of its fields, for ``--help``."""

from __future__ import annotations

import inspect
import re


def field_texts(kind: type) -> dict[str, str]:
    """The text of each field in the ``Args:`` section of ``kind``'s docstring, by name, on one line."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.cleandoc(kind.__doc__ or ""), re.M | re.S)
    texts: dict[str, str] = {}
    if section is None:
        return texts
    for names, text in re.findall(r"^ {4}(\w+(?:, \w+)*): (.*?)(?=^ {4}\S|\Z)", section[1], re.M | re.S):
        for name in names.split(", "):
            texts[name] = " ".join(text.replace("``", "").split())
    return texts
