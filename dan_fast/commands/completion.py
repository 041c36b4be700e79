"""``dan-fast completion`` prints a script that makes a shell complete commands and options."""

from __future__ import annotations

import argparse
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "completions"  # make completions writes them from the options of all commands
SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = ("bash: eval \"$(dan-fast completion bash)\" in ~/.bashrc; zsh: the same with zsh in ~/.zshrc, "
                     "after compinit; tcsh: dan-fast completion tcsh > FILE once, and source FILE in ~/.tcshrc")
    parser.add_argument("shell", choices=SHELLS, help="the shell that shall complete")


def run(args: argparse.Namespace) -> int:
    print((SCRIPTS / f"dan-fast.{args.shell}").read_text(encoding="utf-8"), end="")
    return 0
