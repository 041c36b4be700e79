"""Notices divergence: NaN and collapse, which people who train DAN report most often."""

from __future__ import annotations

import torch
from torch import Tensor

# Losses in the running median. Before there are that many, only losses that are not finite count as bad.
WINDOW = 100


class DivergenceGuard:
    """Judges every step by its loss and gradient norm, before the optimiser updates the weights.

    A step is bad, and to be skipped, if its loss or gradient is not finite or its loss is more than ``outlier`` times
    the running median, as that of a poisoned batch is. The run has diverged after ``patience`` bad steps in a row, or
    when the running median has risen to ``collapse`` times its lowest value. From then on every step is to be skipped
    until the caller has gone back to earlier weights and called ``reset``.

    All of it is arithmetic on tensors on the losses' device, so nothing waits for a GPU.
    """

    def __init__(self, device: torch.device | str = "cpu", *, patience: int = 10, collapse: float = 2.5,
                 outlier: float = 10.0) -> None:
        self.patience, self.collapse, self.outlier = patience, collapse, outlier
        self._losses = torch.zeros(WINDOW, device=device)
        self._good = torch.zeros((), dtype=torch.int64, device=device)
        self._best = torch.full((), torch.inf, device=device)
        self._bad_in_a_row = torch.zeros((), dtype=torch.int64, device=device)
        self._diverged = torch.zeros((), dtype=torch.bool, device=device)
        self._places = torch.arange(WINDOW, device=device)

    @torch.no_grad()
    def judge(self, loss: Tensor, gradient_norm: Tensor) -> tuple[Tensor, Tensor]:
        """Return whether to skip the step and whether the run has diverged.

        All four are scalar tensors.
        """
        loss = loss.to(self._losses.dtype)
        full = self._good >= WINDOW
        far = full & (loss > self.outlier * self._losses.median())
        bad = ~(loss.isfinite() & gradient_norm.isfinite()) | far
        here = (self._places == self._good % WINDOW) & ~bad
        self._losses.copy_(torch.where(here, loss, self._losses))
        self._good.add_(~bad)
        self._bad_in_a_row.copy_(torch.where(bad, self._bad_in_a_row + 1, 0))

        full, median = self._good >= WINDOW, self._losses.median()
        self._best.copy_(torch.where(full, torch.minimum(self._best, median), self._best))
        collapsed = full & (median > self.collapse * self._best)
        self._diverged.logical_or_(collapsed | (self._bad_in_a_row >= self.patience))
        return bad | self._diverged, self._diverged.clone()

    def reset(self) -> None:
        """Forget everything: losses of the bad weights say nothing about the good ones."""
        self.load_state_dict(DivergenceGuard(self._losses.device).state_dict())

    def state_dict(self) -> dict[str, Tensor]:
        return {"losses": self._losses, "good": self._good, "best": self._best, "bad_in_a_row": self._bad_in_a_row,
                "diverged": self._diverged}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])
