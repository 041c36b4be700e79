"""Notices divergence: the NaN and the collapse that people who train DAN report most."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

Verdict = Literal["ok", "skip", "roll back"]


@dataclass
class DivergenceGuard:
    """Judges every step from its loss and gradient norm, before the optimiser takes it.

    A loss or gradient that is not finite: ``"skip"``, and ``"roll back"`` after ``patience`` in
    a row. A collapse, when the recent loss has risen to ``collapse`` times the best that it ever
    was: ``"roll back"``. Rolling back is the caller's: to weights from before.
    """

    patience: int = 10
    collapse: float = 2.5
    bad_in_a_row: int = 0
    steps: int = 0
    recent: float = 0.0
    best: float = math.inf

    # The recent loss is a running mean over about this many steps; judged only once it has filled.
    WINDOW = 100

    def judge(self, loss: float, gradient_norm: float) -> Verdict:
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            self.bad_in_a_row += 1
            return self._roll_back() if self.bad_in_a_row >= self.patience else "skip"
        self.bad_in_a_row = 0
        self.steps += 1
        self.recent += (loss - self.recent) / min(self.steps, self.WINDOW)
        if self.steps < self.WINDOW:
            return "ok"
        self.best = min(self.best, self.recent)
        return self._roll_back() if self.recent > self.collapse * self.best else "ok"

    def _roll_back(self) -> Verdict:
        # Start afresh: what was measured on the bad weights says nothing about the good ones.
        self.bad_in_a_row, self.steps, self.recent, self.best = 0, 0, 0.0, math.inf
        return "roll back"

    def state_dict(self) -> dict:
        return asdict(self)

    def load_state_dict(self, state: dict) -> None:
        for name, value in state.items():
            setattr(self, name, value)
