"""Writes the scripts of ``dan-fast completion``: ``make completions``, after a change of a command's options."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

from dan_fast.cli import make_parser
from dan_fast.commands.completion import SCRIPTS, SHELLS
from dan_fast.files import write_atomically


def scripts() -> dict[Path, str]:
    """Content of each script, by path."""
    parser = make_parser()
    for action in actions(parser):
        if isinstance(action, argparse._SubParsersAction):
            continue
        if action.choices is not None:
            action.choices = tuple(action.choices)  # a dict is a set of sub-commands to shtab
        # A value that is not one of a few may be a file: the shell offers files, and takes anything.
        elif action.nargs != 0 and action.type in (None, Path, str):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return {SCRIPTS / f"dan-fast.{shell}": shtab.complete(parser, shell) for shell in SHELLS}


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All arguments of ``parser`` and of its sub-commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from actions(sub)


if __name__ == "__main__":
    for path, text in scripts().items():
        write_atomically(path, text.encode())
