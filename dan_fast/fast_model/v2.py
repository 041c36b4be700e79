"""DAN v2: dual-path conditional blocks (arXiv 2105.06878)."""

from __future__ import annotations

from typing import Any

import torch

from ..model.estimator import EstimatorV2
from ..model.restorer import RestorerV2
from ..ops import ConditionWeights, DPCBWeights, DPCGWeights, TailWeights


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
