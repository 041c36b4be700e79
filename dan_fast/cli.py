"""The ``dan-fast`` command; each sub-command is a module in ``dan_fast.commands``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Collection, Sequence

from dan_fast_kernels import without

import dan_fast

from .command_line.arguments import HelpWithDefaults
from .errors import DanFastError, did_you_mean, printable
from .runtime.threads import wait_passively

LONGEST_START = 600  # seconds
BROKEN_PIPE = 128 + 13  # the exit code of a program that SIGPIPE ends
COMMANDS = {
    "demo": "blur, shrink and upscale the photos that ship, and show the gain over bicubic",
    "upscale": "upscale photos of unknown blur",
    "kernel": "estimate the blur kernel of a photo",
    "degrade": "blur and shrink sharp images, to make test sets",
    "draw": "make synthetic drawings with lettering, to train on beside photos",
    "pack": "pack images into one file, which training reads without decoding",
    "train": "train a network",
    "parts": "split the state of a training run into small files, to move it, and join them again",
    "evaluate": "measure weights, or another program, on degraded test images",
    "score": "compare two folders of images, results and sharp ones",
    "ablate": "repeat an experiment of the papers: train what it compares, and say what came out",
    "report": "write the page of results from the tables of evaluate",
    "bench": "time a network on this machine",
    "doctor": "say which parts are active on this machine, and why others are not",
    "completion": "print the completion of commands and options for a shell",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``dan-fast`` and return the exit code: 0 done, 1 partly done, 2 bad input, 130 interrupted, 141 broken pipe.

    Without ``argv`` this process is the command, and ``args.started`` is when the process started.
    """
    called = time.monotonic()
    wait_passively()
    try:
        try:
            args = parse(sys.argv[1:] if argv is None else argv)
            args.started = called if argv is not None else time.monotonic() - age_of_process()
            return _run(args)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # its error is caught here; at the end of the process it could not be
    except BrokenPipeError:  # the reader wants no more, as in dan-fast doctor | head -1
        _discard_output()
        return BROKEN_PIPE
    except OSError as error:  # the last of the output, to a full disk
        print(f"dan-fast: error: {error.strerror}", file=sys.stderr)
        _discard_output()
        return 2


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments of ``dan-fast``; only the module of the command that they name is imported."""
    command = argv[0] if argv else ""
    parser = make_parser({command} & set(COMMANDS))
    if command and not command.startswith("-") and command not in COMMANDS:
        parser.error(f"no command {printable(repr(command))}{did_you_mean(command, COMMANDS) or _all_commands()}")
    return parser.parse_args(argv)


def make_parser(with_options: Collection[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The parser of ``dan-fast``, with the options of some of ``COMMANDS``; their modules are imported."""
    parser = argparse.ArgumentParser(prog="dan-fast", description="Blind super-resolution with DAN.")
    parser.add_argument("--version", action="version", version=f"dan-fast {dan_fast.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=_sentence(text), add_help=name in with_options,
                                  formatter_class=HelpWithDefaults)
        if name in with_options:
            module = importlib.import_module(f"dan_fast.commands.{name}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    return parser


def _run(args: argparse.Namespace) -> int:
    try:
        _check_what_is_left_out()
        return args.run(args)
    except BrokenPipeError:
        raise
    except (DanFastError, OSError) as error:  # an OSError names its file and the reason
        return _refuse(args, str(error))
    except MemoryError as error:
        return _refuse(args, str(error) or "not enough memory")
    except RuntimeError as error:
        # torch's own class for too little memory on a GPU; torch is imported where it can be raised.
        if type(error).__name__ != "OutOfMemoryError":
            raise
        return _refuse(args, "not enough memory on the GPU")
    except KeyboardInterrupt:
        print(f"dan-fast {args.command}: interrupted", file=sys.stderr)
        return 130


def _refuse(args: argparse.Namespace, reason: str) -> int:
    print(f"dan-fast {args.command}: error: {printable(' '.join(reason.split()))}", file=sys.stderr)
    return 2


def _discard_output() -> None:
    """Send all output from now on nowhere, so that what is still buffered does not fail at the end of the process."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _all_commands() -> str:
    return f"; expected one of {', '.join(COMMANDS)}"


def age_of_process() -> float:
    """Seconds since this process began, or 0 if that cannot be known."""
    import psutil  # --help needs none

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
