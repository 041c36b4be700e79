"""JSON that commands print, and the schemas in docs/schemas that it must follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema

SCHEMAS = {path.stem: json.loads(path.read_text(encoding="utf-8"))
           for path in (Path(__file__).parents[2] / "docs" / "schemas").glob("*.json")}


def objects(text: str) -> list[dict[str, Any]]:
    """The objects in ``text``, one per line, each of which follows the schema that it names."""
    lines = [json.loads(line, parse_constant=_refuse) for line in text.splitlines()]
    for line in lines:
        _, command, _ = line["schema"].split("/")
        jsonschema.validate(line, SCHEMAS[command], cls=jsonschema.Draft202012Validator)
    return lines


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")
