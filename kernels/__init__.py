"""The compiled parts of dan_fast; import ``dan_fast``, which uses them, not this.

Attributes:
    __version__: version of the installed package; ``dan_fast.__version__`` must be the same.
    EXTENSION: path of the compiled extension, or None. Reading it for the first time loads the extension and torch.
    WHY_NOT: why there is no extension; empty if there is one.
"""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

__version__ = "0.1.0"


def _load() -> tuple[Path | None, str]:
    """The values of ``EXTENSION`` and ``WHY_NOT``."""
    import torch

    folder = Path(__file__).parent
    found = [path for suffix in EXTENSION_SUFFIXES if (path := folder / f"_C{suffix}").is_file()]
    if not found:
        return None, f"{folder} has no compiled extension (installed with DAN_FAST_EXTENSION=0, or not installed)"
    try:
        # It is a library that registers operators, not a Python module: one build serves every version of Python.
        torch.ops.load_library(str(found[0]))
    except OSError as error:
        return None, f"{found[0]} does not load with torch {torch.__version__}: {' '.join(str(error).split())}"
    return found[0], ""


def __getattr__(name: str) -> Path | str | None:
    if name not in ("EXTENSION", "WHY_NOT"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    extension, why_not = _load()
    globals().update(EXTENSION=extension, WHY_NOT=why_not)
    return globals()[name]
