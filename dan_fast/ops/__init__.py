"""One operator a file: reference, registration, public function; ``backend`` says what computes them."""

from .backend import backend
from .blur_downsample import blur_downsample
from .condition_path import ConditionWeights, condition_path, condition_weights
from .dpcb_stack import DPCBWeights, dpcb_stack, dpcb_weights
from .modulate import modulate

__all__ = ["ConditionWeights", "DPCBWeights", "backend", "blur_downsample", "condition_path", "condition_weights",
           "dpcb_stack", "dpcb_weights", "modulate"]
