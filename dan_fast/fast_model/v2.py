"""DAN v2 (arXiv 2105.06878): dual-path conditional blocks; the kernel is estimated, and projected to its code.

The Restorer's body stands in ``dual_path``.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from ..config import DANConfig
from ..model import DAN
from ..model.estimator import EstimatorV2
from ..ops import (
    DPCGWeights,
    TailWeights,
    condition_path,
    conv3x3_bias,
    conv3x3_bias_lrelu,
    conv3x3_scale_residual,
    dpcb_stack,
    dpcg,
    estimator_tail,
    next_condition,
)
from ..ops.estimator_tail import tail_of_pooled
from .cells import convolve_result
from .dual_path import (
    condition_weights,
    features_with_gradients,
    group_end,
    halved,
    two_convolutions,
)
from .parts import Cost, Parts, Reach
from .plan import Estimate, Plan

# --- the operators' arguments ---------------------------------------------------------------------


def dpcg_weights(estimator: EstimatorV2) -> DPCGWeights:
    """The weights of the Estimator's blocks for ``dpcg``: its own parameters, not copies."""
    group: Any = estimator.body
    paths = ([block.body1 for block in group.body], [block.body2 for block in group.body])
    layers = [[path[number] for path in same] for same in paths for number in (0, 2)]
    lists = ([getattr(layer, kind) for layer in same] for same in layers for kind in ("weight", "bias"))
    return DPCGWeights._make((*lists, group.residual))


def tail_weights(estimator: EstimatorV2) -> TailWeights:
    """The weights of the Estimator's end for ``estimator_tail``: views, so that gradients reach its parameters."""
    conv: Any = estimator.tail[0]
    out: Any = estimator.tail[2]
    return TailWeights(conv.weight, conv.bias, out.weight.flatten(1), out.bias)


# --- inference ------------------------------------------------------------------------------------


class PlanV2(Plan):
    """v2 prepared for inference. Its condition is the modulation, (B, N, C)."""

    off_image = re.compile(r"(Restorer|Refiner)\.(head2\.|body\..*\.body2\.)|Estimator\.tail\.")

    def __init__(self, model: DAN, dtype: torch.dtype | None = None, *, refines: bool = True) -> None:
        restorer: Any = model.Restorer
        estimator: Any = model.Estimator
        with torch.no_grad():
            self._condition_weights = condition_weights(restorer)
            self._tail_weights = tail_weights(estimator)
        super().__init__(model, dtype, refines=refines)
        self._body_weights, self._fusion_weight = halved(self._image.Restorer)
        self._estimator_weights = dpcg_weights(self._image.Estimator)

    def condition(self, code: Tensor) -> Tensor:
        with self.stopwatch("condition"):
            return condition_path(code, *self._condition_weights)

    def _body(self, head: Tensor, condition: Tensor) -> Tensor:
        return dpcb_stack(head, self._body_weights, condition)

    def _fuse(self, features: Tensor) -> Tensor:
        return conv3x3_bias(features, self._fusion_weight, self._image.Restorer.fusion.bias)

    def _estimator_body(self, x: Tensor, z: Tensor) -> Tensor:
        return dpcg(x, z, self._estimator_weights)

    def estimate(self, estimator_features: Tensor, *, last: bool = True) -> Estimate:
        tail = (estimator_features, *self._tail_weights, self.model.encoder[0])
        with self.stopwatch("estimator tail"):
            if last:
                return Estimate(*estimator_tail(*tail))
            path: Any = self._condition_weights
            return Estimate(*next_condition(*tail, *path))

    def estimate_pooled(self, pooled: Tensor, pixels: int) -> Estimate:
        with self.stopwatch("estimator tail"):
            return Estimate(*tail_of_pooled(pooled, pixels, *self._tail_weights, self.model.encoder[0]))

    @property
    def _restorer_head(self) -> Any:
        return self._image.Restorer.head1

    @property
    def _estimator_head_hr(self) -> Any:
        return self._image.Estimator.head_HR[0]

    @property
    def _estimator_head_lr(self) -> Any:
        return self._image.Estimator.head_LR[0]


# --- with gradients -------------------------------------------------------------------------------


def estimate_with_gradients(model: DAN, cells: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel (B, k, k) that the Estimator finds in the result's ``cells`` and ``lr``, and its code (B, c);
    differentiable."""
    estimator: Any = model.Estimator
    entry = x = estimator.head_LR(lr)
    z = convolve_result(cells, estimator.head_HR[0], model.config.scale)
    last = len(estimator.body.body) - 1
    for n, block in enumerate(estimator.body.body):
        weight1, bias1, weight2, bias2 = two_convolutions(block.body2)
        f2 = conv3x3_bias_lrelu(conv3x3_bias_lrelu(z, weight1, bias1), weight2, bias2, slope=1)
        if n < last:
            z = z + f2
        weight1, bias1, weight2, bias2 = two_convolutions(block.body1)
        x = conv3x3_scale_residual(conv3x3_bias_lrelu(x, weight1, bias1), weight2, bias2, f2, x)
    return estimator_tail(group_end(estimator.body, entry, x), *tail_weights(estimator), model.encoder[0])


# --- figures --------------------------------------------------------------------------------------


def reach(config: DANConfig) -> Reach:
    """The distances that convolutions see."""
    return Reach(1 + 2 * config.groups * config.blocks, 2 * config.scale, 2 * config.estimator_blocks + 1)


def cost(config: DANConfig) -> Cost:
    """Multiplications per LR pixel. The modulation, which an image has only once, is not counted."""
    width, image = config.estimator_channels, config.image_channels
    body = config.groups * config.blocks * 18 * config.channels**2
    estimator = {"head of lr": 25 * image * width, "head": (4 * config.scale + 1) ** 2 * image * width,
                 "body": config.estimator_blocks * 36 * width**2, "tail": 18 * width**2}
    return Cost(body, body, estimator)


PARTS = Parts(plan=PlanV2, features=features_with_gradients, estimate=estimate_with_gradients, reach=reach, cost=cost,
              plans_training_on_cpu=True)
