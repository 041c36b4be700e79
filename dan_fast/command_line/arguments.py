"""Arguments of several commands, and types for ``argparse`` that check a value's range."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Options = argparse._ActionsContainer
"""A parser, or a group of its options in ``--help``."""


class HelpWithDefaults(argparse.ArgumentDefaultsHelpFormatter):
    """Adds to each help text the option's default, unless the text names it or it is None."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        named = action.default is None or "(default: " in (action.help or "")
        return action.help if named else super()._get_help_string(action)


class HelpWithDefaultsAndEpilog(HelpWithDefaults, argparse.RawDescriptionHelpFormatter):
    """The same for commands whose description and epilog keep their lines."""


def add_device_argument(parser: Options) -> None:
    """Add ``--device``, for ``runtime.devices.pick_device``."""
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")


def whole_number(lowest: int, highest: int | None = None) -> Callable[[str], int]:
    """A ``type=`` of argparse for whole numbers from ``lowest`` to ``highest``, None: without an upper bound."""
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


def number(lowest: float, highest: float | None = None, *, unit: str = "") -> Callable[[str], float]:
    """A ``type=`` of argparse for numbers from ``lowest`` to ``highest``, None: without an upper bound.

    ``unit`` may follow the number.
    """
    expected = f"a number of at least {lowest:g}" if highest is None else f"a number from {lowest:g} to {highest:g}"

    def convert(text: str) -> float:
        try:
            value = float(text.removesuffix(unit))
        except ValueError:
            value = math.nan
        if not value >= lowest or (highest is not None and value > highest):
            raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")
        return value

    return convert


def or_word(word: str, meaning: T, convert: Callable[[str], T]) -> Callable[[str], T]:
    """A ``type=`` of argparse for ``word``, which stands for ``meaning``, and for all that ``convert`` takes."""
    return lambda text: meaning if text == word else convert(text)
