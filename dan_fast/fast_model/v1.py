"""DAN v1: conditional residual blocks with channel attention (arXiv 2010.02631)."""

from __future__ import annotations

from typing import Any

from ..model.blocks import ChannelAttention
from ..model.estimator import EstimatorV1
from ..model.restorer import RestorerV1
from ..ops import AttentionWeights, CRBWeights


def crb_weights(module: RestorerV1 | EstimatorV1) -> CRBWeights:
    """The weights of a module's blocks for ``crb_stack``: its own parameters, not copies."""
    blocks: Any = [block.body for block in module.body]  # torch declares parts of a module as anything
    layers = [[block[0] for block in blocks], [block[2] for block in blocks],
              *([block[3].body[number] for block in blocks] for number in (0, 2))]
    return CRBWeights(*([getattr(layer, kind) for layer in same] for same in layers for kind in ("weight", "bias")))


def attention_weights(attention: ChannelAttention) -> AttentionWeights:
    """The weights of a block's attention for ``channel_attention``: views, so that gradients reach its parameters."""
    first: Any = attention.body[0]
    second: Any = attention.body[2]
    return AttentionWeights(first.weight.flatten(1), first.bias, second.weight.flatten(1), second.bias)
