"""docs/json.md and docs/schemas: every command with --json has its schema and an example that follows it."""

from __future__ import annotations

import argparse
import importlib
import re
from pathlib import Path

import jsonschema
import pytest
from support.json_output import SCHEMAS, objects

from dan_fast.cli import COMMANDS

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```json\n(.*?)^```", PAGE, re.M | re.S)


def test_every_command_with_json_has_a_schema_and_a_section():
    with_json = set()
    for command in COMMANDS:
        parser = argparse.ArgumentParser()
        importlib.import_module(f"dan_fast.commands.{command}").add_arguments(parser)
        with_json |= {command} if "--json" in parser._option_string_actions else set()
    assert with_json == set(SCHEMAS)
    assert set(re.findall(r"^## (.*)$", PAGE, re.M)) == with_json


def test_every_example_follows_its_schema():
    found = [line["schema"] for example in EXAMPLES for line in objects(example)]
    assert set(found) == {schema["properties"]["schema"]["const"] for schema in SCHEMAS.values()}


@pytest.mark.parametrize("command", SCHEMAS)
def test_schemas_take_no_other_field_and_none_less(command):
    schema = SCHEMAS[command]
    jsonschema.Draft202012Validator.check_schema(schema)
    (example,) = [line for text in EXAMPLES for line in objects(text) if line["schema"] == f"dan-fast/{command}/1"][:1]
    for changed in ({**example, "other": 1}, {key: example[key] for key in list(example)[:-1]},
                    {**example, "schema": f"dan-fast/{command}/2"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(changed, schema, cls=jsonschema.Draft202012Validator)


def objects_in(schema):
    """All parts of a schema that describe an object."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects_in(part)


@pytest.mark.parametrize("command", SCHEMAS)
def test_objects_within_objects_are_as_strict(command):
    parts = list(objects_in(SCHEMAS[command]))
    assert parts
    for part in parts:
        assert part["additionalProperties"] is False and set(part["required"]) == set(part["properties"])
