"""Experiments that answer the papers' questions, and one of ours: one file per question, with the networks it needs.

``experiment`` defines what an experiment is, ``runner`` trains and measures, ``significance`` tests differences and
``verdict`` writes the page.
"""

from __future__ import annotations

from collections.abc import Callable

from ..training.presets import Preset
from .block import block
from .blur import blur
from .end_to_end import end_to_end
from .experiment import Experiment
from .inputs import inputs
from .iterations import iterations
from .recipe import recipe
from .supervision import supervision

EXPERIMENTS: dict[str, Callable[[Preset], Experiment]] = {
    "end-to-end": end_to_end,
    "inputs": inputs,
    "block": block,
    "supervision": supervision,
    "blur": blur,
    "iterations": iterations,
    "recipe": recipe,
}
