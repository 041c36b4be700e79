"""Reads the results of steps some steps later, so that nothing waits for the GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from .clock import PendingTimes, StepTimes

# Steps after which a report is read.
LAG = 4


class DelayedReports:
    """Holds the values of the last ``lag`` steps; when older ones are read, the GPU has long computed them.

    The lag is the same on every device, so that whatever follows from the values, for example a roll back, happens at
    the same step everywhere.
    """

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self._pending: deque[tuple[int, Tensor, torch.cuda.Event | None, PendingTimes | StepTimes | None]] = deque()

    def push(self, step: int, values: Tensor, times: PendingTimes) -> None:
        """Add ``values`` (n,) and ``times`` of ``step``. The caller may overwrite the values afterwards."""
        if values.is_cuda:
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(values.device))
            self._pending.append((step, host, done, times))
        else:
            self._pending.append((step, values.clone(), None, times))

    def read(self, lag: int | None = None) -> Iterator[tuple[int, list[float], StepTimes | None]]:
        """Remove and yield all but the last ``lag`` steps (default: ``self.lag``), oldest first."""
        while len(self._pending) > (self.lag if lag is None else lag):
            step, values, done, times = self._pending.popleft()
            if done is not None:
                done.synchronize()
            yield step, values.tolist(), _known(times)

    def clear(self) -> None:
        self._pending.clear()

    def state_dict(self) -> dict[int, list[float]]:
        """Return the unread values by step. Waits for them."""
        for _, _, done, _ in self._pending:
            if done is not None:
                done.synchronize()
        return {step: values.tolist() for step, values, _, _ in self._pending}

    def times(self) -> dict[int, list[float]]:
        """Return the times of the unread steps, where they are known. Waits for them."""
        known = {step: _known(times) for step, _, _, times in self._pending}
        return {step: list(times) for step, times in known.items() if times is not None}

    def load_state_dict(self, state: dict[int, list[float]], times: dict[int, list[float]]) -> None:
        """Restore what ``state_dict`` and ``times`` returned."""
        self.clear()
        for step, values in state.items():
            self._pending.append((step, torch.tensor(values), None, StepTimes(*times[step]) if step in times else None))


def _known(times: PendingTimes | StepTimes | None) -> StepTimes | None:
    return times.read() if isinstance(times, PendingTimes) else times
