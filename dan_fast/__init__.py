"""dan_fast: the Deep Alternating Network for blind super-resolution, fast.

    model = dan_fast.load("default")
    result = dan_fast.Upscaler(model)(image)     # HxWx3 uint8 RGB -> result.image, result.kernel
"""

try:
    import dan_fast_kernels
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("dan_fast is not installed, only its source is here: run pip install .") from error

__version__ = "0.1.0"
if dan_fast_kernels.__version__ != __version__:
    raise ImportError(f"dan_fast {__version__} found the kernels of {dan_fast_kernels.__version__} "
                      f"in {dan_fast_kernels.__file__}: run pip install . again")

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
    "__version__",
    "available",
    "degradation",
    "load",
    "metrics",
    "ops",
    "save",
    "to_published",
]
