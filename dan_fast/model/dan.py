"""DAN, the unrolled alternation of Restorer and Estimator: the reference for everything fast."""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..blur_kernels.gaussian import dirac_kernel
from ..blur_kernels.pca import PCAEncoder
from ..config import DANConfig
from ..runtime.forked import warn_if_forked
from .estimator import EstimatorV1, EstimatorV2
from .restorer import Refiner, RestorerV1, RestorerV2

# Restorer and Estimator of each version.
MODULES = {"v1": (RestorerV1, EstimatorV1), "v2": (RestorerV2, EstimatorV2)}


class DANOutput(NamedTuple):
    """The output of one iteration.

    Attributes:
        sr: (B, 3, h*s, w*s), nominally in [0, 1] but not clamped; the last iteration's is the Refiner's, if the
            network has one.
        kernel: (B, k, k), positive, sum 1; ``None`` for v1, which estimates only the code.
        code: (B, c), the reduced kernel: its projection on the encoder's columns.
    """

    sr: Tensor
    kernel: Tensor | None
    code: Tensor


class DAN(nn.Module):
    """Deep Alternating Network (v1: arXiv 2010.02631, v2: arXiv 2105.06878, algorithm 1).

    ``code = PCA(Dirac)``, then ``config.iterations`` times ``sr = Restorer(lr, code)``,
    ``kernel = Estimator(sr, lr)``, ``code = PCA(kernel)``. With a Refiner (``config.refiner``, ours), the last
    iteration ends with ``sr = Refiner(lr, sr, code)``, where ``code`` is the one that the Restorer was given.

    By default (``config.gradient == "last"``) gradients flow through the last iteration only and not between the two
    modules, as in the published training: the earlier iterations run without autograd, which gives the same gradients
    in a third of the memory.

    Args:
        config: the network's shape.
        encoder: (k*k, c), the PCA basis of the blur kernels; ``None``: fitted to the isotropic Gaussian kernels of
            setting 1 at this scale.

    Raises:
        ValueError: ``encoder`` does not fit the config.
    """

    encoder: Tensor
    init_kernel: Tensor
    init_ker_map: Tensor

    def __init__(self, config: DANConfig, encoder: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        restorer, estimator = MODULES[config.version]
        self.Restorer = restorer(config)
        self.Estimator = estimator(config)
        self.Refiner = None if config.refiner is None else Refiner(config.refiner)
        k, c = config.kernel_size, config.code_length
        if encoder is None:
            encoder = PCAEncoder.isotropic(config.scale, k, c).matrix
        if encoder.shape != (k * k, c):
            raise ValueError(f"encoder has shape {tuple(encoder.shape)}, expected ({k * k}, {c}): "
                             f"kernel_size={k} squared by code_length={c}")
        # Named and shaped as in published checkpoints.
        dirac = dirac_kernel(k, device=encoder.device, dtype=encoder.dtype)
        self.register_buffer("encoder", encoder[None].clone())
        self.register_buffer("init_kernel", dirac[None])
        self.register_buffer("init_ker_map", dirac.view(1, -1) @ encoder)

    def forward(self, lr: Tensor, iterations: int | None = None) -> DANOutput:
        """The last iteration's output for ``lr`` (B, 3, h, w), float in [0, 1]; arguments as of ``iterate``."""
        return self.iterate(lr, iterations)[-1]

    def iterate(self, lr: Tensor, iterations: int | None = None) -> list[DANOutput]:
        """Every iteration's output for ``lr`` (B, 3, h, w), float in [0, 1], oldest first.

        ``iterations`` replaces ``config.iterations`` for this call.
        """
        self._check(lr)
        warn_if_forked()
        count = self.config.iterations if iterations is None else iterations
        if count < 1:
            raise ValueError(f"iterations={count}: expected at least 1")
        code = self.init_ker_map.to(lr.dtype).expand(lr.shape[0], -1)
        outputs = []
        for i in range(count):
            with_gradients = self.config.gradient == "all" or i == count - 1
            with nullcontext() if with_gradients else torch.no_grad():
                outputs.append(self.step(lr, code))
                if i == count - 1:
                    outputs[-1] = outputs[-1]._replace(sr=self.refine(lr, outputs[-1].sr, code))
            code = outputs[-1].code
        return outputs

    def step(self, lr: Tensor, code: Tensor) -> DANOutput:
        """One iteration: Restorer, Estimator and projection, from ``code`` (B, c)."""
        sr = self.Restorer(lr, code)
        # The kernel's loss does not reach the Restorer in the published training.
        estimate = self.Estimator(sr if self.config.gradient == "all" else sr.detach(), lr)
        if self.Estimator.gives_kernel:
            return DANOutput(sr, estimate, self.encode(estimate))
        return DANOutput(sr, None, estimate)

    def refine(self, lr: Tensor, sr: Tensor, code: Tensor) -> Tensor:
        """The result, from the last iteration's ``sr`` and the ``code`` that its Restorer was given: ``sr`` itself
        without a Refiner."""
        return sr if self.Refiner is None else self.Refiner(lr, sr, code)

    def encode(self, kernel: Tensor) -> Tensor:
        """``kernel`` (B, k, k) -> ``code`` (B, c): the projection on the encoder; no mean is subtracted."""
        return kernel.flatten(1) @ self.encoder[0].to(kernel.dtype)

    def _check(self, lr: Tensor) -> None:
        channels = self.config.image_channels
        if lr.dim() != 4 or lr.shape[1] != channels or 0 in lr.shape:
            raise ValueError(f"lr has shape {tuple(lr.shape)}, expected (batch, {channels}, height, width), "
                             "none of them 0")
        if not lr.is_floating_point():
            raise ValueError(f"lr is {lr.dtype}, expected floating point in [0, 1]: divide 8-bit images by 255")
