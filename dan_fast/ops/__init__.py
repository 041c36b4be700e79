"""One operator a file: reference, registration, public function; ``backend`` says what computes them."""

from .backend import backend
from .blur_downsample import blur_downsample
from .conv3x3 import conv3x3_bias_lrelu, conv3x3_scale_residual
from .dpcb import dpcb
from .modulate import modulate

__all__ = ["backend", "blur_downsample", "conv3x3_bias_lrelu", "conv3x3_scale_residual", "dpcb", "modulate"]
