"""A network prepared for inference: the model's own result, up to rounding, in less time.

What does not depend on the iteration is computed once per image (both convolutions of ``lr``, its bicubic upscaling),
and the first code's condition once per network. v2's condition path is ``condition_path``, its bodies are
``dpcb_stack`` and ``dpcg``, its Estimator ends in sums instead of a convolution. The published upsampler is one
convolution. The result stays in ``cells`` until the image is wanted.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ..model import DAN
from ..ops import conv3x3_bias, convolution
from ..ops.estimator_tail import pooled
from ..runtime.stopwatch import Stopwatch
from .cells import Bicubic, strided_weight, to_image
from .collapsed_upsampler import CollapsedUpsampler, DirectUpsampler
from .image_weights import with_image_weights
from .refiner import PlannedRefiner


class Prepared(NamedTuple):
    """The tensors that the modules compute from ``lr`` alone; every iteration reuses them. All but ``lr`` itself are
    channels_last.

    Attributes:
        lr: (B, colours, h, w), as it was given.
        head: (B, C, h, w), the Restorer's convolution of ``lr``.
        estimator_head: (B, estimator channels, h, w), the Estimator's.
        base: (B, s*s*colours, h, w), the bicubic upscaling of ``lr`` as cells; ``None`` if the network adds none.
    """

    lr: Tensor
    head: Tensor
    estimator_head: Tensor
    base: Tensor | None


class Estimate(NamedTuple):
    """The Estimator's results.

    Attributes:
        kernel: (B, k, k); ``None`` for a version that estimates only the code.
        code: (B, c).
        condition: ``plan.condition(code)`` where it was computed in the same pass, else ``None``.
    """

    kernel: Tensor | None
    code: Tensor
    condition: Tensor | None = None


class Plan(ABC):
    """One network on one device in one dtype, immutable. An iteration is

        cells = plan.restore(prepared, plan.condition(code))
        kernel, code, _ = plan.estimate(plan.estimator_features(cells, prepared))

    and for an image in tiles the second line becomes ``plan.estimate_pooled(pooled, pixels)``, where ``pooled`` is the
    sum of ``plan.pool(estimator_features)`` over all tiles. The last iteration's cells become those of the result by
    ``plan.refine(prepared, cells, plan.refinement(code))``. Images are computed in ``dtype``; condition, kernel and
    code, which are small, in the model's.

    Args:
        model: in eval mode; it must not change as long as the plan is used. The weights that meet images may be in
            ``dtype`` already.
        dtype: of images and of the weights that meet them; ``None``: the model's.
        refines: whether to prepare the Refiner, if the model has one.

    Attributes:
        refiner: ``None``: the network has none, or it is not prepared.
        off_image: names of the parameters that are not applied to images, besides the upsampler's.
    """

    off_image: ClassVar[re.Pattern[str]]

    def __init__(self, model: DAN, dtype: torch.dtype | None = None, *, refines: bool = True) -> None:
        self.model, self.config = model, model.config
        self.dtype = model.encoder.dtype if dtype is None else dtype
        self.device = model.encoder.device
        self.stopwatch = Stopwatch(self.device)
        # Parts of torch modules are declared as anything, and these differ by version.
        self._image: Any = with_image_weights(model, self.dtype, self.off_image)
        restorer, config = self._image.Restorer, self.config
        self.refiner = (PlannedRefiner(model.Refiner, self._image.Refiner, self.dtype)
                        if refines and model.Refiner is not None else None)
        self._upscale: Callable[[Tensor], Tensor] = (
            CollapsedUpsampler(restorer.upscale, config.channels, config.scale, dtype=self.dtype)
            if config.upsampler == "published"
            else DirectUpsampler(restorer.upscale, config.scale, dtype=self.dtype))
        self._bicubic = None
        if restorer.adds_bicubic:
            self._bicubic = Bicubic(config.image_channels, config.scale, restorer.fusion.weight)
        self._head_weight, _ = strided_weight(self._estimator_head_hr.weight.detach(), config.scale)
        self.first_code = model.init_ker_map
        with torch.no_grad():
            self.first_condition = self.condition(self.first_code)

    # --- an iteration -------------------------------------------------------------------------

    def prepare(self, lr: Tensor) -> Prepared:
        """Compute what all iterations share, for ``lr`` (B, image channels, h, w) in [0, 1], floating point."""
        with self.stopwatch("heads"):
            lr = lr.to(self.device)
            base = None
            if self._bicubic is not None:
                base = self._bicubic(lr.to(self.dtype, memory_format=torch.channels_last))
            return Prepared(lr, convolution(lr, self._restorer_head.weight, self._restorer_head.bias),
                            convolution(lr, self._estimator_head_lr.weight, self._estimator_head_lr.bias), base)

    @abstractmethod
    def condition(self, code: Tensor) -> Tensor:
        """The condition of the Restorer's blocks, from ``code`` (B, c); batch first."""

    def restore(self, prepared: Prepared, condition: Tensor) -> Tensor:
        """The Restorer's result as cells, (B, s*s*colours, h, w). A ``condition`` of batch 1 serves every image."""
        condition = condition.expand(prepared.head.shape[0], *condition.shape[1:])
        with self.stopwatch("body"):
            features = self._body(prepared.head, condition)
        with self.stopwatch("upsampler"):
            cells = self._upscale(self._fuse(features))
            return cells if prepared.base is None else cells.add_(prepared.base)

    def refinement(self, code: Tensor) -> Tensor | None:
        """The condition of the Refiner's blocks, from ``code`` (B, c); ``None`` without a Refiner."""
        if self.refiner is None:
            return None
        with self.stopwatch("condition"):
            return self.refiner.condition(code)

    def refine(self, prepared: Prepared, cells: Tensor, refinement: Tensor | None) -> Tensor:
        """The result's cells, from those of the last ``restore``: refined, or as they are without a Refiner.

        A ``refinement`` of batch 1 serves every image.
        """
        if self.refiner is None or refinement is None:
            return cells
        with self.stopwatch("refiner"):
            return self.refiner(prepared.lr, cells, refinement.expand(len(cells), *refinement.shape[1:]))

    def image(self, cells: Tensor) -> Tensor:
        """(B, s*s*colours, h, w) -> (B, colours, h*s, w*s)."""
        with self.stopwatch("image"):
            return to_image(cells, self.config.scale)

    def estimator_features(self, cells: Tensor, prepared: Prepared) -> Tensor:
        """The Estimator's image after its last block, (B, estimator channels, h, w)."""
        with self.stopwatch("estimator head"):
            z = convolution(cells, self._head_weight, self._estimator_head_hr.bias)
        with self.stopwatch("estimator body"):
            return self._estimator_body(prepared.estimator_head, z)

    def estimate(self, estimator_features: Tensor, *, last: bool = True) -> Estimate:
        """Kernel and code of whole images. ``last``: no iteration follows that needs the condition."""
        height, width = estimator_features.shape[2:]
        return self.estimate_pooled(self.pool(estimator_features), height * width)

    # --- images in tiles ----------------------------------------------------------------------

    def pool(self, estimator_features: Tensor, core: tuple[slice, slice] | None = None) -> Tensor:
        """Sums of the pixels that each tap of the Estimator's last convolution meets, (B, C, 3, 3).

        ``core``: the rows and columns of the convolution's output to sum over; ``None``: all. The sums of disjoint
        cores that cover an image add up to the image's own, if each tile shows at least one pixel more of the image
        than its core.
        """
        with self.stopwatch("estimator tail"):
            return pooled(estimator_features, core)

    @abstractmethod
    def estimate_pooled(self, pooled: Tensor, pixels: int) -> Estimate:
        """Kernel and code, from the sums of ``pool`` over all ``pixels`` of an image."""

    def encode(self, kernel: Tensor) -> Tensor:
        """``kernel`` (B, k, k) -> ``code`` (B, c)."""
        return self.model.encode(kernel)

    # --- the modules' layers ------------------------------------------------------------------

    @abstractmethod
    def _body(self, head: Tensor, condition: Tensor) -> Tensor:
        """The features: the Restorer's blocks on its convolution of ``lr``."""

    def _fuse(self, features: Tensor) -> Tensor:
        """The convolution between the Restorer's blocks and the upsampler."""
        fusion = self._image.Restorer.fusion
        return conv3x3_bias(features, fusion.weight, fusion.bias)

    @abstractmethod
    def _estimator_body(self, x: Tensor, z: Tensor) -> Tensor:
        """The Estimator's blocks, on its convolutions of ``lr`` (``x``) and of the result (``z``)."""

    @property
    def _restorer_head(self) -> Any:
        """The Restorer's convolution of ``lr``."""
        return self._image.Restorer.head

    @property
    def _estimator_head_lr(self) -> Any:
        """The Estimator's convolution of ``lr``."""
        return self._image.Estimator.head_LR

    @property
    def _estimator_head_hr(self) -> Any:
        """The Estimator's convolution of the result."""
        return self._image.Estimator.head_HR
