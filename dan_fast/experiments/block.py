"""Is the dual-path block better than concatenating the condition, v1's block? Asked by the papers."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from ..config import DANConfig
from ..errors import DanFastError
from ..model import DAN
from ..model.blocks import CRB
from ..model.estimator import EstimatorV2
from ..model.restorer import RestorerV1
from ..training.presets import Preset
from .experiment import Experiment, Trial, Variant

# A CRB convolves the concatenated channels. In the Estimator two CRBs take as many multiplications as three DPCBs. In
# the Restorer the code's 10 channels weigh more where the network is narrow: with 16 channels the whole network takes
# 8 % more multiplications than with DPCBs, with 32 channels 1 % more.
BLOCKS = 2 / 3


class ConcatenatingBody(nn.Module):
    """CRBs in the place of a DPCG.

    x, z: (B, C, h, w)

    Returns the new ``x`` and the unchanged ``z``.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CRB(channels, channels) for _ in range(blocks))

    def forward(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        for block in self.blocks:
            x = block(x, z)
        return x, z


class ConcatenatingEstimator(EstimatorV2):
    """v2's Estimator with v1's blocks."""

    def __init__(self, config: DANConfig) -> None:
        super().__init__(config)
        blocks = max(1, round(BLOCKS * config.estimator_blocks))
        self.body = ConcatenatingBody(config.estimator_channels, blocks)  # type: ignore[assignment]


class Concatenating(DAN):
    """v2 with two of v1's blocks for every three of its own; heads, tails and kernel are v2's."""

    def __init__(self, config: DANConfig, encoder: Tensor | None = None) -> None:
        super().__init__(config, encoder)
        blocks = max(1, round(BLOCKS * config.groups * config.blocks))
        self.Restorer = RestorerV1(replace(config, version="v1", groups=0, blocks=blocks))
        self.Estimator = ConcatenatingEstimator(config)


def block(preset: Preset) -> Experiment:
    for name in ("channels", "estimator_channels"):
        if getattr(preset.config, name) < 16:
            raise DanFastError(f"{name}={getattr(preset.config, name)}: v1's block needs at least 16; "
                               "take a wider preset")
    return Experiment(
        "Is the dual-path block (DPCB) better than concatenating the condition (CRB, v1's block)?",
        (Variant("dpcb", preset, (Trial("DPCB (v2)"),)),
         Variant("crb", preset, (Trial("concatenation (CRB, v1)", against="DPCB (v2)"),), build=Concatenating)),
        "A CRB takes more multiplications than a DPCB, so there are two for every three; the last column says how "
        "far the costs still differ.",
        # The rest differs in names and shapes: common_tensors leaves it out on both sides.
        anew=("Restorer.body.", "Estimator.body."))
