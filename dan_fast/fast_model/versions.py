"""The registry: every version of ``config.VERSIONS`` and its parts."""

from __future__ import annotations

import torch

from ..config import DANConfig
from ..model import DAN
from . import v1, v2
from .parts import Parts
from .plan import Plan

PARTS: dict[str, Parts] = {"v1": v1.PARTS, "v2": v2.PARTS}


def parts_of(config: DANConfig) -> Parts:
    """The parts of the network's version."""
    return PARTS[config.version]


def plan_for(model: DAN, dtype: torch.dtype | None = None, *, refines: bool = True) -> Plan:
    """``model`` prepared for inference where it is; arguments as of ``Plan``."""
    return parts_of(model.config).plan(model, dtype, refines=refines)
