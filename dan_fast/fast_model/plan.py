"""A network made ready to run on images: the model's own result, up to rounding, in less time.

What does not depend on the iteration is computed once for an image (both heads of ``lr``, its bicubic upscaling), the
first code's condition once for a network; v2's condition path is ``condition_path``, its bodies are ``dpcb_stack`` and
``dpcg``, the Estimator ends in sums instead of a convolution, the published upsampler is one convolution, and the
image is put together only when it is wanted: until then it is ``cells``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import DAN
from ..ops import (
    condition_path,
    conv3x3_bias,
    convolution,
    crb_stack,
    dpcb_stack,
    dpcg,
    estimator_tail,
    next_condition,
)
from ..ops.dpcb_stack import DPCBWeights
from ..ops.estimator_tail import pooled, tail_of_pooled
from ..runtime.stopwatch import Stopwatch
from .cells import Bicubic, strided_weight, to_image
from .collapsed_upsampler import CollapsedUpsampler, DirectUpsampler
from .image_weights import with_image_weights
from .v1 import crb_weights
from .v2 import condition_weights, dpcb_weights, dpcg_weights, tail_weights


class Prepared(NamedTuple):
    """Of one ``lr``, the same in every iteration: what both modules make of it alone, channels_last.

    Attributes:
        head, estimator_head: (B, C, h, w) of either module's own C.
        base: (B, s*s*colours, h, w), its bicubic upscaling as cells, where the network adds it.
    """

    head: Tensor
    estimator_head: Tensor
    base: Tensor | None


class Estimate(NamedTuple):
    """``kernel`` (B, k, k), or None for v1; ``code`` (B, c); ``condition`` that the next iteration has by this code,
    where it came along."""

    kernel: Tensor | None
    code: Tensor
    condition: Tensor | None = None


class Plan(ABC):
    """One network on one device in one dtype, immutable. An iteration is

        cells = plan.restore(prepared, plan.condition(code))
        kernel, code = plan.estimate(plan.features(cells, prepared))

    and of an image in tiles ``plan.estimate_pooled(the sum of plan.pool(features) over all tiles, pixels)``. Images
    are computed in ``dtype``; condition, kernel and code, which are small, in the model's.

    Args:
        model: in eval mode; it must not change as long as the plan is used. The weights that meet images may be in
            ``dtype`` already.
        dtype: of images and of the weights that meet them; ``None``: the model's.
    """

    def __init__(self, model: DAN, dtype: torch.dtype | None = None) -> None:
        self.model, self.config = model, model.config
        self.dtype = model.encoder.dtype if dtype is None else dtype
        self.device = model.encoder.device
        self.stopwatch = Stopwatch(self.device)
        # Parts of torch modules are declared as anything, and these differ by version.
        self._image: Any = with_image_weights(model, self.dtype)
        restorer, config = self._image.Restorer, self.config
        self._upscale: Callable[[Tensor], Tensor] = (
            CollapsedUpsampler(restorer.upscale, config.channels, config.scale, dtype=self.dtype)
            if config.upsampler == "published"
            else DirectUpsampler(restorer.upscale, config.scale, dtype=self.dtype))
        self._bicubic = None
        if restorer.adds_bicubic:
            self._bicubic = Bicubic(config.image_channels, config.scale, restorer.fusion.weight)
        self._head_weight, _ = strided_weight(self._estimator_head.weight.detach(), config.scale)
        self.first_code = model.init_ker_map
        with torch.no_grad():
            self.first_condition = self.condition(self.first_code)

    @abstractmethod
    def condition(self, code: Tensor) -> Tensor:
        """``code`` (B, c) as the Restorer's blocks take it, batch first."""

    @abstractmethod
    def _estimator_body(self, x: Tensor, z: Tensor) -> Tensor:
        """The Estimator's blocks, from its heads of ``lr`` and of the result."""

    @abstractmethod
    def estimate_pooled(self, pooled: Tensor, pixels: int) -> Estimate:
        """What the Estimator makes of the sums of ``pool`` over all ``pixels`` of the image."""

    def estimate(self, features: Tensor, *, goes_on: bool = False) -> Estimate:
        """What the Estimator makes of whole images, from its ``features``.

        ``goes_on``: another iteration follows, so that its condition may come along.
        """
        return self.estimate_pooled(self.pool(features), features.shape[2] * features.shape[3])

    @abstractmethod
    def _body(self, head: Tensor, condition: Tensor) -> Tensor:
        """The Restorer's blocks."""

    @property
    def _head(self) -> Any:
        """The Restorer's convolution of ``lr``."""
        return self._image.Restorer.head

    @property
    def _estimator_head(self) -> Any:
        """The Estimator's convolution of the result."""
        return self._image.Estimator.head_HR

    @property
    def _lr_head(self) -> Any:
        """The Estimator's convolution of ``lr``."""
        return self._image.Estimator.head_LR

    def prepare(self, lr: Tensor) -> Prepared:
        """For ``lr`` (B, image channels, h, w) in [0, 1]; any floating point type."""
        with self.stopwatch("heads"):
            lr = lr.to(self.device)
            base = None
            if self._bicubic is not None:
                base = self._bicubic(lr.to(self.dtype, memory_format=torch.channels_last))
            return Prepared(convolution(lr, self._head.weight, self._head.bias),
                            convolution(lr, self._lr_head.weight, self._lr_head.bias), base)

    def restore(self, prepared: Prepared, condition: Tensor) -> Tensor:
        """The result as cells, (B, s*s*colours, h, w). A ``condition`` of batch 1 is for every image."""
        condition = condition.expand(prepared.head.shape[0], *condition.shape[1:])
        with self.stopwatch("body"):
            features = self._body(prepared.head, condition)
        with self.stopwatch("upsampler"):
            cells = self._upscale(self._fuse(features))
            return cells if prepared.base is None else cells.add_(prepared.base)

    def image(self, cells: Tensor) -> Tensor:
        """(B, s*s*colours, h, w) -> (B, colours, h*s, w*s)."""
        with self.stopwatch("image"):
            return to_image(cells, self.config.scale)

    def features(self, cells: Tensor, prepared: Prepared) -> Tensor:
        """The Estimator's last image, (B, C, h, w)."""
        with self.stopwatch("estimator head"):
            z = convolution(cells, self._head_weight, self._estimator_head.bias)
        with self.stopwatch("estimator body"):
            return self._estimator_body(prepared.estimator_head, z)

    def _fuse(self, features: Tensor) -> Tensor:
        fusion = self._image.Restorer.fusion
        return conv3x3_bias(features, fusion.weight, fusion.bias)

    def pool(self, features: Tensor, core: tuple[slice, slice] | None = None) -> Tensor:
        """Sums over the pixels ``core`` (all, if None) of what each tap of the last convolution meets, (B, C, 3, 3).

        Those of disjoint cores that cover an image add up to the image's own, if outside of its core a tile shows
        at least one more pixel of the image.
        """
        with self.stopwatch("estimator tail"):
            return pooled(features, core)

    def encode(self, kernel: Tensor) -> Tensor:
        """``kernel`` (B, k, k) -> ``code`` (B, c)."""
        return self.model.encode(kernel)


class PlanV1(Plan):
    """The condition is the code itself: constant planes beside the image."""

    def __init__(self, model: DAN, dtype: torch.dtype | None = None) -> None:
        super().__init__(model, dtype)
        self._body_weights = crb_weights(self._image.Restorer)
        self._estimator_weights = crb_weights(self._image.Estimator)

    def condition(self, code: Tensor) -> Tensor:
        return code.to(self.dtype)

    def _estimator_body(self, x: Tensor, z: Tensor) -> Tensor:
        return crb_stack(x, z, self._estimator_weights)

    def estimate_pooled(self, pooled: Tensor, pixels: int) -> Estimate:
        out: Any = self.model.Estimator.out
        code = F.linear((pooled / pixels).to(out.weight.dtype).flatten(1), out.weight.flatten(1), out.bias)
        return Estimate(None, code)

    def _body(self, head: Tensor, condition: Tensor) -> Tensor:
        return crb_stack(head, condition, self._body_weights)


class PlanV2(Plan):
    """The condition is the factor of every block and channel, (B, N, C)."""

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

    def _estimator_body(self, x: Tensor, z: Tensor) -> Tensor:
        return dpcg(x, z, self._estimator_weights)

    def estimate(self, features: Tensor, *, goes_on: bool = False) -> Estimate:
        path: Any = self._condition_weights
        with self.stopwatch("estimator tail"):
            if goes_on:
                return Estimate(*next_condition(features, *self._tail_weights, self.model.encoder[0], *path))
            return Estimate(*estimator_tail(features, *self._tail_weights, self.model.encoder[0]))

    def estimate_pooled(self, pooled: Tensor, pixels: int) -> Estimate:
        with self.stopwatch("estimator tail"):
            return Estimate(*tail_of_pooled(pooled, pixels, *self._tail_weights, self.model.encoder[0]))

    @property
    def _head(self) -> Any:
        return self._image.Restorer.head1

    @property
    def _estimator_head(self) -> Any:
        return self._image.Estimator.head_HR[0]

    @property
    def _lr_head(self) -> Any:
        return self._image.Estimator.head_LR[0]

    def _body(self, head: Tensor, condition: Tensor) -> Tensor:
        return dpcb_stack(head, self._body_weights, condition)

    def _fuse(self, features: Tensor) -> Tensor:
        return conv3x3_bias(features, self._fusion_weight, self._image.Restorer.fusion.bias)


@torch.no_grad()
def _halved(restorer: Any) -> tuple[DPCBWeights, Tensor]:
    """Weights of the body and of ``fusion`` that never double the image at a group's end.

    A group that returns ``2 * body(x)`` doubles what all later ones work on: 32 times at the end of five, near the
    end of float16. As a block is homogeneous but for its biases, the later groups can work on the image halved,
    their biases with it, and ``fusion`` on what is left. Powers of two cost no digit.
    """
    weights = dpcb_weights(restorer)
    fusion = restorer.fusion.weight
    groups = len(weights.weight1) // weights.blocks
    if weights.group_residual != "doubled" or groups == 1:
        return weights, fusion
    # As one group, it is doubled once.
    bias1, bias2 = (_halved_by_group(biases, groups) for biases in (weights.bias1, weights.bias2))
    whole = weights._replace(bias1=bias1, bias2=bias2, blocks=len(weights.weight1))
    return whole, fusion * 2.0 ** (groups - 1)


def _halved_by_group(biases: list[Tensor], groups: int) -> list[Tensor]:
    """Those of the second group halved, those of the third quartered, and so on; few operations, as training does it in
    every step."""
    together = torch.stack(biases)
    for number, group in enumerate(together.chunk(groups)):
        group.mul_(0.5**number)
    return list(together.unbind())


def plan_for(model: DAN, dtype: torch.dtype | None = None) -> Plan:
    """The plan of a network where it is; arguments as of ``Plan``."""
    return (PlanV1 if model.config.version == "v1" else PlanV2)(model, dtype)
