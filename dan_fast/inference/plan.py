"""How a network is run on images: as the model says it, or with what changes nothing but the time.

For v2 on the CPU in float32: what does not depend on the iteration is computed once (both heads of ``lr``, its bicubic
upscaling, the first code's factors), the condition's path comes from ``condition_path``, the body from
``dpcb_stack``, and the published upsampler is one convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model import DAN, DANOutput
from ..model.estimator import EstimatorV2
from ..model.restorer import RestorerV2
from ..ops import condition_path, condition_weights, dpcb_stack, dpcb_weights
from .collapse import CollapsedUpsampler


class Plan:
    """The plain model: any version, device and dtype.

    Args:
        model: in eval mode. It must not change as long as the plan is used.
    """

    def __init__(self, model: DAN) -> None:
        self.model = model

    def last(self, lr: Tensor) -> tuple[DANOutput, Tensor]:
        """``model(lr)`` for ``lr`` (B, image channels, h, w), and the code (B, c) that the last iteration used."""
        code = self.code(lr, self.model.config.iterations - 1)
        return self.model.step(lr, code), code

    def code(self, lr: Tensor, iterations: int) -> Tensor:
        """The code (B, c) after ``iterations`` iterations; after 0 it is the Dirac kernel's."""
        code = self.model.init_ker_map.to(lr.dtype).expand(lr.shape[0], -1)
        for _ in range(iterations):
            code = self.model.step(lr, code).code
        return code

    def sr(self, lr: Tensor) -> Tensor:
        """``model(lr).sr``: faster where the last kernel need not be estimated."""
        return self.last(lr)[0].sr

    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        """``model.Restorer(lr, code)``."""
        return self.model.Restorer(lr, code)


class _Invariants(NamedTuple):
    """Of one ``lr``, the same in every Restorer pass: its head and, where the network adds it, the bicubic base."""

    head: Tensor
    base: Tensor | None


class PlanV2(Plan):
    """v2 on the CPU in float32, equal to the plain model up to rounding. For inference."""

    def __init__(self, model: DAN) -> None:
        super().__init__(model)
        assert isinstance(model.Restorer, RestorerV2) and isinstance(model.Estimator, EstimatorV2)
        self._restorer, self._estimator = model.Restorer, model.Estimator
        self._upscale: Callable[[Tensor], Tensor] = self._restorer.upscale
        if model.config.upsampler == "published":
            self._upscale = CollapsedUpsampler(self._restorer.upscale, model.config.channels, model.config.scale)
        with torch.no_grad():
            self._condition = condition_weights(self._restorer)
            self._first_scales = condition_path(model.init_ker_map, *self._condition)

    @torch.no_grad()
    def last(self, lr: Tensor) -> tuple[DANOutput, Tensor]:
        invariants, estimator_head = self._invariants(lr), self._estimator.head_LR(lr)
        code, scales = self._code(invariants, estimator_head, self.model.config.iterations - 1)
        sr = self._restore(invariants, scales)
        kernel = self._estimate(sr, estimator_head)
        return DANOutput(sr, kernel, self.model.encode(kernel)), code

    @torch.no_grad()
    def sr(self, lr: Tensor) -> Tensor:
        invariants = self._invariants(lr)
        _, scales = self._code(invariants, self._estimator.head_LR(lr), self.model.config.iterations - 1)
        return self._restore(invariants, scales)

    @torch.no_grad()
    def code(self, lr: Tensor, iterations: int) -> Tensor:
        return self._code(self._invariants(lr), self._estimator.head_LR(lr), iterations)[0]

    @torch.no_grad()
    def restore(self, lr: Tensor, code: Tensor) -> Tensor:
        scales = condition_path(code, *self._condition)
        return self._restore(self._invariants(lr), scales.expand(lr.shape[0], -1, -1))

    def _code(self, invariants: _Invariants, estimator_head: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        """What the iteration after ``iterations`` of them uses: the code (B, c) and its factors (B, N, C)."""
        batch = estimator_head.shape[0]
        code, scales = self.model.init_ker_map.expand(batch, -1), self._first_scales.expand(batch, -1, -1)
        for _ in range(iterations):
            code = self.model.encode(self._estimate(self._restore(invariants, scales), estimator_head))
            scales = condition_path(code, *self._condition)
        return code, scales

    def _invariants(self, lr: Tensor) -> _Invariants:
        base = None
        if self._restorer.adds_bicubic:
            base = F.interpolate(lr, scale_factor=self._restorer.scale, mode="bicubic", align_corners=False)
        return _Invariants(self._restorer.head1(lr), base)

    def _restore(self, invariants: _Invariants, scales: Tensor) -> Tensor:
        features = dpcb_stack(invariants.head, dpcb_weights(self._restorer), scales)
        sr = self._upscale(self._restorer.fusion(features))
        return sr if invariants.base is None else sr + invariants.base

    def _estimate(self, sr: Tensor, estimator_head: Tensor) -> Tensor:
        """The Estimator from its head of ``lr`` on: (B, k, k)."""
        x, _ = self._estimator.body(estimator_head, self._estimator.head_HR(sr))
        return self._estimator.tail(x).view(-1, self._estimator.kernel_size, self._estimator.kernel_size)


def plan_for(model: DAN) -> Plan:
    """The fastest plan that there is for this network, where it is and in its dtype."""
    place = model.encoder.device.type, model.encoder.dtype
    fast = model.config.version == "v2" and place == ("cpu", torch.float32)
    return PlanV2(model) if fast else Plan(model)
