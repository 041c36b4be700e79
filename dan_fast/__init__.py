"""dan_fast: the Deep Alternating Network for blind super-resolution, fast.

    model = dan_fast.load("default")
    result = dan_fast.Upscaler(model)(image)     # HxWx3 uint8 RGB -> result.image, result.kernel
"""

from . import degradation, metrics, ops
from .checkpoint import available, load, save, to_published
from .config import DANConfig
from .inference import Upscaler, UpscaleResult
from .model import DAN, DANOutput

__all__ = [
    "DAN",
    "DANConfig",
    "DANOutput",
    "UpscaleResult",
    "Upscaler",
    "available",
    "degradation",
    "load",
    "metrics",
    "ops",
    "save",
    "to_published",
]
