"""Messages of commands that show a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tqdm import tqdm

from ..errors import printable


def say(message: str) -> None:
    """Write a line to stderr without tearing a progress bar."""
    tqdm.write(printable(message), file=sys.stderr)


def skip_into(skipped: list[str]) -> Callable[[str], None]:
    """Return a function that says why an image is skipped and appends the reason to ``skipped``."""
    def skip(reason: str) -> None:
        skipped.append(reason)
        say(f"skipped: {reason}")
    return skip
