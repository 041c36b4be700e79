"""Output for programs, ``--json``, and less of it, ``--quiet``: the same in all commands."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any

from ..errors import DanFastError
from .arguments import Options

VERSION = 1  # of every schema in docs/json.md


def add_output_arguments(parser: Options, *, quiet: bool = True) -> None:
    """Add ``--json`` and, unless the command prints nothing but its result, ``--quiet``."""
    parser.add_argument("--json", action="store_true",
                        help="print JSON for programs to standard output, one object per line, and nothing else "
                        "(docs/json.md)")
    if quiet:
        parser.add_argument("--quiet", action="store_true", help="print nothing but errors")


def refuse_silence(args: argparse.Namespace, option: str, file: object) -> None:
    """Raise ``DanFastError`` if the command would do its work and show it nowhere.

    Args:
        option: the option that names what is written.
        file: its value, or None: nothing is written.
    """
    if args.quiet and not args.json and file is None:
        raise DanFastError(f"--quiet prints nothing, and nothing is written either: give {option} or --json as well")


def print_json(command: str, **fields: Any) -> None:
    """Print one line: an object with ``fields``, and ``schema``, which names the command and the version.

    Numbers that are not finite become null. Bytes in names that are not Unicode become ``\\udc80`` to ``\\udcff`` in
    plain letters, as Python and ``printable`` show them.
    """
    line = json.dumps({"schema": f"dan-fast/{command}/{VERSION}", **_plain(fields)}, allow_nan=False)
    # Threads print too: the line is written by one call, so that no other comes between it and its end.
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    """``value`` with null for numbers that are not finite, and text that every reader of JSON takes."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value
