"""The table that ``dan-fast bench --csv`` writes: its columns, writing it, reading it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ..errors import DanFastError
from ..files import write_table


@dataclass(frozen=True)
class Timing:
    """Times of whole calls of an upscaler with images of one size.

    Attributes:
        machine: processor and software that the times belong to.
        dtype: floating-point type that was computed in.
        width, height: size of the low-resolution image, pixels.
        median_ms, fastest_ms: milliseconds of the median and of the fastest call.
        floor_ms: time of the network's multiply-adds at the rate of a matrix product.
        plain_ms: median of the plain model; None if it was not timed.
    """

    machine: str
    dtype: str
    width: int
    height: int
    median_ms: float
    fastest_ms: float
    floor_ms: float
    plain_ms: float | None


def write_timings(path: Path, timings: Sequence[Timing]) -> None:
    """Write ``timings`` as a CSV file.

    Raises:
        DanFastError: the file cannot be written.
    """
    write_table(path, [field.name for field in fields(Timing)], [astuple(timing) for timing in timings])


def read_timings(path: Path) -> list[Timing]:
    """The timings in a file of ``write_timings``.

    Raises:
        DanFastError: the file is of another kind.
        OSError: the file cannot be read.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [Timing(line["machine"], line["dtype"], int(line["width"]), int(line["height"]),
                           float(line["median_ms"]), float(line["fastest_ms"]), float(line["floor_ms"]),
                           float(line["plain_ms"]) if line["plain_ms"] else None) for line in csv.DictReader(file)]
    except (KeyError, TypeError, ValueError):  # a column, a cell or a number is missing
        raise DanFastError(f"{path}: expected the file that dan-fast bench --csv writes") from None
