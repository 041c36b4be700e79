"""The operators, one per file: reference, registration, public function. ``backend`` chooses what computes them."""

from .backend import backend
from .blur_downsample import blur_downsample
from .channel_attention import AttentionWeights, channel_attention
from .condition_path import ConditionWeights, condition_path
from .conv3x3_bias import conv3x3_bias
from .conv3x3_bias_lrelu import conv3x3_bias_lrelu
from .conv3x3_scale_residual import conv3x3_scale_residual
from .convolution import convolution
from .crb_stack import CRBWeights, crb_stack
from .dpcb import dpcb
from .dpcb_stack import DPCBWeights, dpcb_stack
from .dpcg import DPCGWeights, dpcg
from .estimator_tail import TailWeights, estimator_tail
from .modulate import modulate
from .next_condition import next_condition
from .upsampler import upsampler

__all__ = [
    "AttentionWeights", "CRBWeights", "ConditionWeights", "DPCBWeights", "DPCGWeights", "TailWeights",
    "backend", "blur_downsample", "channel_attention", "condition_path", "conv3x3_bias", "conv3x3_bias_lrelu",
    "conv3x3_scale_residual", "convolution", "crb_stack", "dpcb", "dpcb_stack", "dpcg", "estimator_tail", "modulate",
    "next_condition", "upsampler",
]
