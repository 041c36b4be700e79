"""The compiled parts of dan_fast; import ``dan_fast``, which uses them, not this.

Attributes:
    __version__: version of the installed package; ``dan_fast.__version__`` must be the same.
    EXTENSION: path of the compiled extension, or None. Reading it for the first time loads the extension and torch.
    WHY_NOT: why there is no extension; empty if there is one.
    ADVICE: how to get one; empty if there is one.
"""

from __future__ import annotations

import re
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

__version__ = "0.1.0"
BUILD_AGAIN = "pip install --no-build-isolation . in the source folder"
OLDEST_TORCH = "2.11"
# The operators that dan_fast calls: a file that lacks one was compiled from other sources.
OPERATORS = (
    "blur_downsample_cpp", "conv3x3_bias_cpp", "conv3x3_bias_lrelu_backward_cpp", "conv3x3_bias_lrelu_cpp",
    "conv3x3_input_gradient_cpp", "conv3x3_scale_residual_backward_cpp", "conv3x3_scale_residual_cpp",
    "conv3x3_weight_gradient_cpp", "crb_stack_cpp", "dpcb_backward_cpp", "dpcb_cpp", "dpcb_stack_cpp", "dpcg_cpp",
    "modulate_backward_cpp", "modulate_cpp", "pack_conv3x3",
)


def _load() -> tuple[Path | None, str, str]:
    """The values of ``EXTENSION``, ``WHY_NOT`` and ``ADVICE``."""
    import torch

    if _numbers(torch.__version__) < _numbers(OLDEST_TORCH):
        return (None, f"torch {torch.__version__} is older than {OLDEST_TORCH}",
                f'pip install "torch>={OLDEST_TORCH}"')
    folder = Path(__file__).parent
    found = [path for suffix in EXTENSION_SUFFIXES if (path := folder / f"_C{suffix}").is_file()]
    if not found:
        return (None, f"{folder} has no compiled extension (installed with DAN_FAST_EXTENSION=0, or not installed)",
                f"install a C++ compiler, then {BUILD_AGAIN}")
    try:
        # It is a library that registers operators, not a Python module: one build serves every version of Python.
        torch.ops.load_library(str(found[0]))
    except OSError as error:
        return (None, f"{found[0]} does not load with torch {torch.__version__}: {' '.join(str(error).split())}",
                BUILD_AGAIN)
    for name in OPERATORS:
        if not hasattr(torch.ops.dan_fast, name):
            return None, f"{found[0]} was compiled from other sources than these: it lacks {name}", BUILD_AGAIN
    return found[0], "", ""


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def __getattr__(name: str) -> Path | str | None:
    if name not in ("EXTENSION", "WHY_NOT", "ADVICE"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    extension, why_not, advice = _load()
    globals().update(EXTENSION=extension, WHY_NOT=why_not, ADVICE=advice)
    return globals()[name]
