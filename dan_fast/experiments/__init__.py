"""The papers' questions, and one of ours, as experiments: a file each, with the networks that only it needs.

``experiment`` says what one is, ``runner`` trains and measures, ``verdict`` says what came out.
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
