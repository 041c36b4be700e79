"""One operator a file: reference, registration, public function; ``backend`` says what computes them."""

from .backend import backend
from .blur_downsample import blur_downsample
from .condition_path import ConditionWeights, condition_path, condition_weights
from .conv3x3 import conv3x3_bias_lrelu, conv3x3_scale_residual
from .dpcb import dpcb
from .modulate import modulate

__all__ = [
    "ConditionWeights",
    "backend",
    "blur_downsample",
    "condition_path",
    "condition_weights",
    "conv3x3_bias_lrelu",
    "conv3x3_scale_residual",
    "dpcb",
    "modulate",
]
