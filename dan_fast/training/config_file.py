"""Writes all settings of a run to a JSON file, and reads them for ``--config``."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_type_hints

from ..config import DANConfig
from ..degradation.pipeline import Degradation
from ..errors import DanFastError
from ..files import write_atomically
from .presets import Preset
from .settings import TrainingSettings

PARTS: dict[str, type] = {"config": DANConfig, "degradation": Degradation, "training": TrainingSettings}


def preset_to_dict(preset: Preset) -> dict[str, dict[str, Any]]:
    """Return every field of every part as plain values."""
    return {name: asdict(getattr(preset, name)) for name in PARTS}


def preset_from_dict(parts: dict[str, Any], source: str) -> Preset:
    """The inverse of ``preset_to_dict``; a missing field gets its default.

    Raises:
        DanFastError: a part or field is unknown or impossible; the message names it and ``source``.
    """
    made = {}
    for name, kind in PARTS.items():
        values = dict(_section(parts, name, source))
        known = [field.name for field in fields(kind)]
        for key in values:
            if key not in known:
                raise DanFastError(f"{source}: unknown key {name}.{key}; {name} has {', '.join(known)}")
        if isinstance(values.get("sigma"), list):
            values["sigma"] = tuple(values["sigma"])
        for key, hint in get_type_hints(kind).items():
            if key in values and not _fits(values[key], hint):
                raise DanFastError(f"{source}: {name}.{key}={values[key]!r}: expected {_EXPECTED[hint]}")
        try:
            made[name] = kind(**values)
        except (TypeError, ValueError) as error:
            raise DanFastError(f"{source}: {name}: {error}") from None
    preset = Preset(**made)
    for field in ("scale", "kernel_size"):
        network, blur = getattr(preset.config, field), getattr(preset.degradation, field)
        if network != blur:
            raise DanFastError(f"{source}: config.{field}={network} and degradation.{field}={blur}: expected the same")
    return preset


def write_config(path: Path, preset: Preset, seed: int) -> None:
    """Write all settings of a run to ``path``.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomically(path, (json.dumps({"seed": seed, **preset_to_dict(preset)}, indent=2) + "\n").encode())


def read_config(path: Path) -> tuple[Preset, int]:
    """Return the preset and the seed (0 if missing) of a file that ``write_config`` or a user wrote.

    Raises:
        DanFastError: there is no such file, it is no JSON, or a key is unknown or impossible.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DanFastError(f"{path}: cannot be read as a JSON file of settings: {error}") from None
    if not isinstance(content, dict):
        raise DanFastError(f"{path}: expected an object with {', '.join(PARTS)}")
    for key in content:
        if key not in (*PARTS, "seed"):
            raise DanFastError(f"{path}: unknown key {key}; expected {', '.join(PARTS)} or seed")
    seed = content.get("seed", 0)
    if type(seed) is not int or seed < 0:
        raise DanFastError(f"{path}: seed={seed!r}: expected a whole number of at least 0")
    return preset_from_dict(content, str(path)), seed


_EXPECTED = {int: "a whole number", float: "a number", str: "a text", bool: "true or false",
             tuple[float, float]: "two numbers, the smaller first"}


def _fits(value: Any, hint: Any) -> bool:
    if hint is float:
        return type(value) in (int, float)
    if hint == tuple[float, float]:
        return (type(value) is tuple and len(value) == 2 and all(type(v) in (int, float) for v in value)
                and 0 < value[0] <= value[1])
    return type(value) is hint


def _section(parts: dict[str, Any], name: str, source: str) -> dict[str, Any]:
    section = parts.get(name)
    if not isinstance(section, dict):
        raise DanFastError(f"{source}: expected a section {name!r} with its fields")
    return section
