"""dan_fast: the Deep Alternating Network for blind super-resolution, fast.

    model = dan_fast.load("default")
    result = dan_fast.Upscaler(model)(image)     # HxWx3 uint8 RGB -> result.image, result.kernel

Names are imported when they are first used: ``import dan_fast`` alone does not import torch, so that a command can say
how torch's threads shall wait (``dan_fast.runtime.threads``) before they exist.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

try:
    import dan_fast_kernels
except ModuleNotFoundError as error:
    if error.name != "dan_fast_kernels":
        raise
    raise ModuleNotFoundError("dan_fast is not installed, only its source is here: run pip install .") from error

__version__ = "0.1.0"
if dan_fast_kernels.__version__ != __version__:
    raise ImportError(f"dan_fast {__version__} found the kernels of {dan_fast_kernels.__version__} "
                      f"in {dan_fast_kernels.__file__}: run pip install . again")

if TYPE_CHECKING:
    from . import degradation, ops
    from .checkpoint import available, load, save, to_published
    from .config import DANConfig
    from .evaluation import metrics
    from .inference import Upscaler, UpscaleResult
    from .model import DAN, DANOutput

__all__ = [
    "DAN",
    "DANConfig",
    "DANOutput",
    "UpscaleResult",
    "Upscaler",
    "__version__",
    "available",
    "degradation",
    "load",
    "metrics",
    "ops",
    "save",
    "to_published",
]

_HOMES = {"DAN": "model", "DANConfig": "config", "DANOutput": "model", "UpscaleResult": "inference",
          "Upscaler": "inference", "available": "checkpoint", "load": "checkpoint", "save": "checkpoint",
          "to_published": "checkpoint"}
_MODULES = {"degradation", "metrics", "ops", *_HOMES.values(), "errors"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    elif name in _MODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
