"""Plots with matplotlib, which is an optional part: ``pip install 'dan_fast[plots]'``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import DanFastError
from ..files import atomic_path

MISSING = "plots need matplotlib, which is not installed: pip install 'dan_fast[plots]'"


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


@contextmanager
def plot(path: Path, width: float = 7, height: float = 4.2) -> Iterator[Any]:
    """Yield axes to draw on, and write the picture to ``path`` when the block ends without an error.

    Args:
        width, height: size in inches, of 100 pixels each.

    Raises:
        DanFastError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    if not can_plot():
        raise DanFastError(MISSING)
    from matplotlib.figure import Figure  # pyplot would open windows and hold global state

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    yield axes
    with atomic_path(path) as part:
        # Without version and date, so that the same figures give the same file.
        figure.savefig(part, metadata={"Software": None})
