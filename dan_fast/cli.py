"""The ``dan-fast`` command; each sub-command is a module in ``dan_fast.commands``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence

import psutil
from dan_fast_kernels import without

from .command_line.arguments import HelpWithDefaults
from .errors import DanFastError, printable
from .runtime.threads import wait_passively

LONGEST_START = 600  # seconds
COMMANDS = {
    "demo": "blur, shrink and upscale the photos that ship, and show the gain over bicubic",
    "upscale": "upscale photos of unknown blur",
    "kernel": "estimate the blur kernel of a photo",
    "degrade": "blur and shrink sharp images, to make test sets",
    "pack": "pack images into one file, which training reads without decoding",
    "train": "train a network",
    "parts": "split the state of a training run into small files, to move it, and join them again",
    "evaluate": "measure weights on degraded test images",
    "ablate": "repeat an experiment of the papers: train what it compares, and say what came out",
    "report": "write the page of results from the tables of evaluate",
    "bench": "time a network on this machine",
    "doctor": "say which parts are active on this machine, and why others are not",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``dan-fast`` and return the exit code: 0 done, 1 partly done, 2 bad input, 130 interrupted.

    Without ``argv`` this process is the command, and ``args.started`` is when the process started.
    """
    started = time.monotonic() - (age_of_process() if argv is None else 0)
    wait_passively()
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="dan-fast", description="Blind super-resolution with DAN.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        # Only the module of the command that is run is imported.
        asked = name in argv[:1]
        sub = commands.add_parser(name, help=text, description=_sentence(text), add_help=asked,
                                  formatter_class=HelpWithDefaults)
        if asked:
            module = importlib.import_module(f"dan_fast.commands.{name}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    args.started = started
    try:
        _check_what_is_left_out()
        return args.run(args)
    except (DanFastError, OSError) as error:  # an OSError names its file and the reason
        print(f"dan-fast {args.command}: error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"dan-fast {args.command}: interrupted", file=sys.stderr)
        return 130


def age_of_process() -> float:
    """Seconds since this process began, or 0 if that cannot be known."""
    age = time.time() - psutil.Process().create_time()
    # The system's clock may have been set since the process began.
    return age if 0 <= age < LONGEST_START else 0.0


def _check_what_is_left_out() -> None:
    try:
        without.names(os.environ.get(without.VARIABLE, ""))
    except ValueError as error:
        raise DanFastError(str(error)) from None


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


if __name__ == "__main__":
    sys.exit(main())
