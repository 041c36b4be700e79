"""Output for programs, ``--json``, and less of it, ``--quiet``: the same in all commands."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

VERSION = 1  # of every schema in docs/json.md


def add_output_arguments(parser: argparse.ArgumentParser, *, quiet: bool = True) -> None:
    """Add ``--json`` and, unless the command prints nothing but its result, ``--quiet``."""
    parser.add_argument("--json", action="store_true",
                        help="print JSON for programs to standard output, one object per line, and nothing else "
                        "(docs/json.md)")
    if quiet:
        parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def print_json(command: str, **fields: Any) -> None:
    """Print one line: an object with ``fields``, and ``schema``, which names the command and the version.

    Numbers that are not finite become null. Names that are not Unicode are escaped, so that the line always is.
    """
    line = json.dumps({"schema": f"dan-fast/{command}/{VERSION}", **_plain(fields)}, allow_nan=False)
    print(line, flush=True)


def _plain(value: Any) -> Any:
    """``value`` with null for numbers that are not finite."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
