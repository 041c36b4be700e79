"""The ``dan-fast`` command: one module in ``dan_fast.commands`` for each sub-command."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence

import psutil
from dan_fast_kernels import without

from .errors import DanFastError, printable
from .runtime.threads import wait_passively

MOST_TO_START = 600  # seconds
COMMANDS = {
    "demo": "blur, shrink and upscale the photos that ship, and show what it gains",
    "upscale": "upscale photos of unknown blur",
    "kernel": "estimate the blur kernel of a photo",
    "degrade": "blur and shrink sharp images, to make test sets",
    "pack": "pack images into one file, which training reads without decoding",
    "train": "train a network",
    "parts": "take a training run's state apart into small files, to move it, and together again",
    "evaluate": "measure weights on degraded test images",
    "ablate": "ask one of the papers' questions again: train what it compares, and say what came out",
    "report": "write the page of results from what evaluate measured",
    "bench": "time a network on this machine",
    "doctor": "say which parts are active here, and why not",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``dan-fast``; returns the exit code: 0 done, 1 partly done, 2 bad input, 130 interrupted.

    Without ``argv`` this process is the command, and its time counts from the start of the process.
    """
    started = time.monotonic() - (age_of_process() if argv is None else 0)
    wait_passively()
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="dan-fast", description="Blind super-resolution with DAN.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        # Only the command that was asked for is imported.
        asked = name in argv[:1]
        sub = commands.add_parser(name, help=text, description=_sentence(text), add_help=asked,
                                  formatter_class=argparse.ArgumentDefaultsHelpFormatter)
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
    """Seconds since this process began, as far as it can be known; else 0."""
    age = time.time() - psutil.Process().create_time()
    # The system tells it by a clock that may have been set since.
    return age if 0 <= age < MOST_TO_START else 0.0


def _check_what_is_left_out() -> None:
    try:
        without.names(os.environ.get(without.VARIABLE, ""))
    except ValueError as error:
        raise DanFastError(str(error)) from None


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


if __name__ == "__main__":
    sys.exit(main())
