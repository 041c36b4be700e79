"""Options for the fields of ``TrainingSettings``, for the commands that train."""

from __future__ import annotations

import argparse
import typing
from collections.abc import Collection
from dataclasses import fields
from typing import Any

from ..config import field_help
from ..training.settings import TrainingSettings
from .arguments import Options

ALL = tuple(field.name for field in fields(TrainingSettings))


def add_training_settings(parser: Options, names: Collection[str] = ALL) -> None:
    """Add a group with an option for each of these fields; what is not given stays out of the parsed arguments."""
    group = parser.add_argument_group("settings of the training", "default: the preset's")
    texts, kinds = field_help(TrainingSettings), typing.get_type_hints(TrainingSettings)
    for name in names:
        group.add_argument(f"--{name.replace('_', '-')}", type=kinds[name], default=argparse.SUPPRESS,
                           help=texts[name].replace("%", "%%"))


def given_settings(args: argparse.Namespace, names: Collection[str] = ALL) -> dict[str, Any]:
    """The fields that the command line gives, by name."""
    return {name: getattr(args, name) for name in names if hasattr(args, name)}
