"""The dual-path body that v2's Restorer and the Refiner have in common: its operators' arguments, and its gradients.

A block (DPCB) computes ``x + f1(x) * f2(z)`` and ``z + f2(z)``. Here the second path never sees the image: z and f2 are
one value per image and channel, and all blocks' f2 together are the modulation, (B, N, C).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..model.restorer import RestorerV2
from ..ops import ConditionWeights, DPCBWeights, condition_path, dpcb


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


@torch.no_grad()
def halved(restorer: Any) -> tuple[DPCBWeights, Tensor]:
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


def features_with_gradients(restorer: RestorerV2, image: Tensor, code: Tensor) -> Tensor:
    """The features from the input of ``head1`` (``lr``, or what the Refiner sees) and ``code`` (B, c), differentiable.
    """
    groups: Any = restorer.body
    x = restorer.head1(image)
    modulation = iter(condition_path(code, *condition_weights(restorer)).unbind(1))
    for group in groups:
        entry = x
        for block in group.body:
            x = dpcb(x, *two_convolutions(block.body1), next(modulation))
        x = group_end(group, entry, x)
    return x


def group_end(group: Any, entry: Tensor, x: Tensor) -> Tensor:
    """The group's result, from its blocks' result ``x`` and its input ``entry``."""
    return 2 * x if group.residual == "doubled" else entry + x


def two_convolutions(path: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weight and bias of the first, then of the second convolution of a block's path."""
    return path[0].weight, path[0].bias, path[2].weight, path[2].bias
