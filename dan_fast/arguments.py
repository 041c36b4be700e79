"""Types for ``argparse`` that check a value's range."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def whole_number(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """A ``type=`` for whole numbers from ``lowest`` to ``highest``."""
    expected = f"a whole number of at least {lowest}" if highest is None else f"a whole number, {lowest} to {highest}"

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest or (highest is not None and value > highest):
            raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")
        return value

    return convert
