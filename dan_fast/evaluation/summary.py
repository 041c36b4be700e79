"""The tables that ``dan-fast evaluate`` writes: their columns, writing them, reading them.

``evaluation.csv`` has one line per image and kernel; ``summary.csv`` has the means of each set, by kernel and over all.
"""

from __future__ import annotations

import csv
import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from ..errors import DanFastError
from ..files import write_table
from .measure import Row, mean

# Columns of summary.csv that are means of the columns of the same name in Row.
MEASURES = ("bicubic_psnr_y", "psnr_y", "bicubic_ssim_y", "ssim_y", "bicubic_psnr_rgb", "psnr_rgb", "bicubic_ssim_rgb",
            "ssim_rgb", "kernel_error", "kernel_psnr")
# The same without the shift of the kernels. There is no aligned kernel PSNR.
ALIGNED = ("shift_down", "shift_right", *(f"aligned_{name}" for name in MEASURES if name != "kernel_psnr"))
# Those that are empty where a kernel is not known.
OF_KERNELS = ("kernel_error", "kernel_psnr", *ALIGNED)
COLUMNS = ("set", "sigma", "cases", *MEASURES, "median_ms", *ALIGNED)
# Older files end with kernel_psnr: new columns come last, and readers do not need them.
NEEDED = COLUMNS[:COLUMNS.index("median_ms")]
ALL_KERNELS = "mean"


@dataclass(frozen=True)
class Summary:
    """Means over some cases of one set.

    Attributes:
        set: name of the test set.
        sigma: the kernel of the cases: its sigma with two decimals, ``"#"`` and its index where it has no single sigma,
            or ``ALL_KERNELS``.
        cases: number of images times kernels.
        figures: mean by column of ``MEASURES`` and ``ALIGNED``, without those of kernels that are not known, and
            ``"median_ms"``, the upscaler's median time.
    """

    set: str
    sigma: str
    cases: int
    figures: dict[str, float]


def summarize(rows: Sequence[Row]) -> list[Summary]:
    """The summaries of each set in ``rows``: one per kernel if its images have several, then that of all kernels."""
    summaries = []
    for name in dict.fromkeys(row.set for row in rows):
        of_set = [row for row in rows if row.set == name]
        kernels = sorted({row.kernel for row in of_set})
        if len(kernels) > 1:
            for kernel in kernels:
                of_kernel = [row for row in of_set if row.kernel == kernel]
                sigma = of_kernel[0].sigma
                summaries.append(_summary(name, f"#{kernel}" if sigma is None else f"{sigma:.2f}", of_kernel))
        summaries.append(_summary(name, ALL_KERNELS, of_set))
    return summaries


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write ``rows`` as ``evaluation.csv``, without ``seconds``, so that the same weights write the same file.

    Raises:
        DanFastError: the file cannot be written.
    """
    columns = [field.name for field in fields(Row)]
    assert columns[-1] == "seconds"
    write_table(path, columns[:-1], [astuple(row)[:-1] for row in rows])


def write_summary(path: Path, summaries: Sequence[Summary]) -> None:
    """Write ``summaries`` as ``summary.csv``; cells of what is not known are empty.

    Raises:
        DanFastError: the file cannot be written.
    """
    write_table(path, COLUMNS, [
        (summary.set, summary.sigma, summary.cases, *(summary.figures.get(column) for column in COLUMNS[3:]))
        for summary in summaries])


def read_summary(path: Path) -> list[Summary]:
    """The summaries in a ``summary.csv``; they lack the figures that were not measured.

    Raises:
        DanFastError: the file is not a summary.
        OSError: the file cannot be read.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        if not lines or not set(NEEDED) <= lines[0].keys():
            raise ValueError
        return [Summary(line["set"], line["sigma"], int(line["cases"]),
                        {column: float(line[column]) for column in COLUMNS[3:]
                         if column in line and not (column in OF_KERNELS and line[column] == "")}) for line in lines]
    except (TypeError, ValueError):  # a column, a cell or a number is missing
        raise DanFastError(f"{path}: expected the summary.csv that dan-fast evaluate writes") from None


def _summary(name: str, sigma: str, rows: Sequence[Row]) -> Summary:
    # The median, as the first call for a size includes the engine's preparations for it.
    milliseconds = 1000 * statistics.median(row.seconds for row in rows)
    means = {column: mean(rows, column) for column in (*MEASURES, *ALIGNED)}
    return Summary(name, sigma, len(rows), {
        **{column: value for column, value in means.items() if value is not None}, "median_ms": milliseconds})
