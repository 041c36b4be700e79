"""DAN v2 (arXiv 2105.06878): dual-path conditional blocks; the kernel is estimated, and projected to its code.

A block (DPCB) computes ``x + f1(x) * f2(z)`` and ``z + f2(z)``. In the Restorer the second path never sees the image: z
and f2 are one value per image and channel, and all blocks' f2 together are the modulation, (B, N, C).
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from ..config import DANConfig
from ..model import DAN
from ..model.estimator import EstimatorV2
from ..model.restorer import RestorerV2
from ..ops import (
    ConditionWeights,
    DPCBWeights,
    DPCGWeights,
    TailWeights,
    condition_path,
    conv3x3_bias,
    conv3x3_bias_lrelu,
    conv3x3_scale_residual,
    dpcb,
    dpcb_stack,
    dpcg,
    estimator_tail,
    next_condition,
)
from ..ops.estimator_tail import tail_of_pooled
from .cells import convolve_result
from .parts import Cost, Parts, Reach
from .plan import Estimate, Plan

# --- the operators' arguments ---------------------------------------------------------------------


def condition_weights(restorer: RestorerV2) -> ConditionWeights:
    """The weights of the Restorer's second path for ``condition_path``, stacked; gradients reach its parameters.

    ``weight1`` is a transposed view, which the Triton kernels read without a copy.
    """
    head: Any = restorer.head2  # torch declares biases as optional and parts of a module as anything
    groups: Any = restorer.body
    blocks = [block for group in groups for block in group.body]
    first, second = ([block.body2[layer] for block in blocks] for layer in (0, 2))
    return ConditionWeights(
        head.weight.flatten(1), head.bias,
        torch.stack([conv.weight.flatten(1).T for conv in first]).transpose(1, 2),
        torch.stack([conv.bias for conv in first]),
        torch.stack([conv.weight.flatten(1) for conv in second]),
        torch.stack([conv.bias for conv in second]),
        len(groups[0].body), groups[0].residual)


def dpcb_weights(restorer: RestorerV2) -> DPCBWeights:
    """The weights of the Restorer's image path for ``dpcb_stack``: its own parameters, not copies."""
    groups: Any = restorer.body
    blocks = [block for group in groups for block in group.body]
    first, second = ([block.body1[layer] for block in blocks] for layer in (0, 2))
    return DPCBWeights([conv.weight for conv in first], [conv.bias for conv in first],
                       [conv.weight for conv in second], [conv.bias for conv in second],
                       len(groups[0].body), groups[0].residual)


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

    off_image = re.compile(r"Restorer\.head2\.|Restorer\.body\..*\.body2\.|Estimator\.tail\.")

    def __init__(self, model: DAN, dtype: torch.dtype | None = None) -> None:
        restorer: Any = model.Restorer
        estimator: Any = model.Estimator
        with torch.no_grad():
            self._condition_weights = condition_weights(restorer)
            self._tail_weights = tail_weights(estimator)
        super().__init__(model, dtype)
        self._body_weights, self._fusion_weight = _halved(self._image.Restorer)
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


@torch.no_grad()
def _halved(restorer: Any) -> tuple[DPCBWeights, Tensor]:
    """Weights of the Restorer's body and of ``fusion`` with which no group but the last doubles the image.

    A group that returns ``2 * body(x)`` doubles the image for all later ones: it is 32 times as large at the end of
    five, near the largest float16. As a block is homogeneous but for its biases, the later groups can work on the
    image halved, with their biases halved too, and ``fusion`` makes up for it. Powers of two cost no digit.
    """
    weights = dpcb_weights(restorer)
    fusion = restorer.fusion.weight
    groups = len(weights.weight1) // weights.blocks
    if weights.group_residual != "doubled" or groups == 1:
        return weights, fusion
    bias1, bias2 = (_halved_by_group(biases, groups) for biases in (weights.bias1, weights.bias2))
    # One group of all blocks, which doubles once, at its end.
    whole = weights._replace(bias1=bias1, bias2=bias2, blocks=len(weights.weight1))
    return whole, fusion * 2.0 ** (groups - 1)


def _halved_by_group(biases: list[Tensor], groups: int) -> list[Tensor]:
    """``biases`` with those of the second group halved, those of the third quartered, and so on.

    It takes few operations, as a training step makes a plan every time.
    """
    together = torch.stack(biases)
    for number, group in enumerate(together.chunk(groups)):
        group.mul_(0.5**number)
    return list(together.unbind())


# --- with gradients -------------------------------------------------------------------------------


def features_with_gradients(restorer: RestorerV2, lr: Tensor, code: Tensor) -> Tensor:
    """The Restorer's features from ``lr`` (B, 3, h, w) and ``code`` (B, c), differentiable."""
    groups: Any = restorer.body
    x = restorer.head1(lr)
    modulation = iter(condition_path(code, *condition_weights(restorer)).unbind(1))
    for group in groups:
        entry = x
        for block in group.body:
            x = dpcb(x, *_two_convolutions(block.body1), next(modulation))
        x = _group_end(group, entry, x)
    return x


def estimate_with_gradients(model: DAN, cells: Tensor, lr: Tensor) -> tuple[Tensor, Tensor]:
    """The kernel (B, k, k) that the Estimator finds in the result's ``cells`` and ``lr``, and its code (B, c);
    differentiable."""
    estimator: Any = model.Estimator
    entry = x = estimator.head_LR(lr)
    z = convolve_result(cells, estimator.head_HR[0], model.config.scale)
    last = len(estimator.body.body) - 1
    for n, block in enumerate(estimator.body.body):
        weight1, bias1, weight2, bias2 = _two_convolutions(block.body2)
        f2 = conv3x3_bias_lrelu(conv3x3_bias_lrelu(z, weight1, bias1), weight2, bias2, slope=1)
        if n < last:
            z = z + f2
        weight1, bias1, weight2, bias2 = _two_convolutions(block.body1)
        x = conv3x3_scale_residual(conv3x3_bias_lrelu(x, weight1, bias1), weight2, bias2, f2, x)
    return estimator_tail(_group_end(estimator.body, entry, x), *tail_weights(estimator), model.encoder[0])


def _group_end(group: Any, entry: Tensor, x: Tensor) -> Tensor:
    """The group's result, from its blocks' result ``x`` and its input ``entry``."""
    return 2 * x if group.residual == "doubled" else entry + x


def _two_convolutions(path: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weight and bias of the first, then of the second convolution of a block's path."""
    return path[0].weight, path[0].bias, path[2].weight, path[2].bias


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
