"""One operator a file: reference, registration, public function; ``backend`` says what computes them."""

from .backend import backend
from .blur_downsample import blur_downsample
from .modulate import modulate

__all__ = ["backend", "blur_downsample", "modulate"]
