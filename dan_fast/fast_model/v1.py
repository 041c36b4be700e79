"""DAN v1 (arXiv 2010.02631): conditional residual blocks with channel attention; the code is estimated, no kernel.

A block (CRB) concatenates its condition to the image. In the Restorer that is the code, stretched to constant planes.
"""

from __future__ import annotations

import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import DANConfig
from ..model import DAN
from ..model.blocks import ChannelAttention
from ..model.estimator import EstimatorV1
from ..model.restorer import RestorerV1
from ..ops import AttentionWeights, CRBWeights, channel_attention, crb_stack
from .cells import convolve_result
from .parts import Cost, Parts, Reach
from .plan import Estimate, Plan

# --- the operators' arguments ---------------------------------------------------------------------


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


# --- inference ------------------------------------------------------------------------------------


class PlanV1(Plan):
    """v1 prepared for inference. Its condition is the code itself, (B, c)."""

    off_image = re.compile(r"Estimator\.out\.|(Restorer|Estimator)\.body\.\d+\.body\.3\.body\.")

    def __init__(self, model: DAN, dtype: torch.dtype | None = None, *, refines: bool = True) -> None:
        super().__init__(model, dtype, refines=refines)
        self._body_weights = crb_weights(self._image.Restorer)
        self._estimator_weights = crb_weights(self._image.Estimator)

    def condition(self, code: Tensor) -> Tensor:
        return code.to(self.dtype)

    def _body(self, head: Tensor, condition: Tensor) -> Tensor:
        return crb_stack(head, condition, self._body_weights)

    def _estimator_body(self, x: Tensor, z: Tensor) -> Tensor:
        return crb_stack(x, z, self._estimator_weights)

    def estimate_pooled(self, pooled: Tensor, pixels: int) -> Estimate:
        out: Any = self.model.Estimator.out
        code = F.linear((pooled / pixels).to(out.weight.dtype).flatten(1), out.weight.flatten(1), out.bias)
        return Estimate(None, code)


# --- with gradients -------------------------------------------------------------------------------


def features_with_gradients(restorer: RestorerV1, lr: Tensor, code: Tensor) -> Tensor:
    """The Restorer's features from ``lr`` (B, 3, h, w) and ``code`` (B, c), differentiable."""
    planes = code[:, :, None, None].expand(-1, -1, *lr.shape[2:])
    return _blocks(restorer.body, restorer.head(lr), planes)


def estimate_with_gradients(model: DAN, cells: Tensor, lr: Tensor) -> tuple[None, Tensor]:
    """No kernel, and the code (B, c) that the Estimator finds in the result's ``cells`` and ``lr``; differentiable."""
    estimator: Any = model.Estimator
    x, z = estimator.head_LR(lr), convolve_result(cells, estimator.head_HR, model.config.scale)
    return None, estimator.out(_blocks(estimator.body, x, z)).mean((2, 3))


def _blocks(blocks: Any, x: Tensor, z: Tensor) -> Tensor:
    """``x`` after the ``blocks``, each a concatenation with ``z``, two convolutions and channel attention."""
    for block in blocks:
        *convolutions, attention = block.body
        y = torch.cat((x, z), 1)
        for layer in convolutions:
            y = layer(y)
        x = channel_attention(y, *attention_weights(attention), x)
    return x


# --- figures --------------------------------------------------------------------------------------


def reach(config: DANConfig) -> Reach:
    """The distances that convolutions see; the channel attention, which averages over the image, is left out."""
    return Reach(1 + 2 * config.blocks, 4, 2 * config.estimator_blocks + 1)


def cost(config: DANConfig) -> Cost:
    """Multiplications per LR pixel."""
    channels, width, image = config.channels, config.estimator_channels, config.image_channels
    both = channels + config.code_length
    estimator = {"head of lr": image * width, "head": 81 * image * width,
                 "body": config.estimator_blocks * 9 * 2 * width * 3 * width, "tail": 9 * width * config.code_length}
    # The plan convolves no constant planes: they are a bias.
    return Cost(config.blocks * 9 * both * (both + channels), config.blocks * 18 * channels * both, estimator)


PARTS = Parts(plan=PlanV1, features=features_with_gradients, estimate=estimate_with_gradients, reach=reach, cost=cost,
              plans_training_on_cpu=False)
