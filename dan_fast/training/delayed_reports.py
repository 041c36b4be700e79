"""Results of a GPU, read some steps late, so that nobody waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor

from .clock import PendingTimes, Times

# Steps after which a report is read.
LAG = 4


class DelayedReports:
    """Holds the values of the last ``lag`` steps; older ones have long been computed when they are read.

    The lag is the same wherever it runs, so that what follows from the values, a roll back for example, does too.
    """

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self._pending: deque[tuple[int, Tensor, torch.cuda.Event | None, PendingTimes | Times | None]] = deque()

    def push(self, step: int, values: Tensor, took: PendingTimes) -> None:
        """Note ``values`` (n,) of ``step`` and what it took. The values may be overwritten afterwards."""
        if values.is_cuda:
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(values.device))
            self._pending.append((step, host, done, took))
        else:
            self._pending.append((step, values.clone(), None, took))

    def read(self, lag: int | None = None) -> Iterator[tuple[int, list[float], Times | None]]:
        """Removes and yields all but the last ``lag`` (default: the reader's), oldest first."""
        while len(self._pending) > (self.lag if lag is None else lag):
            step, values, done, took = self._pending.popleft()
            if done is not None:
                done.synchronize()
            yield step, values.tolist(), _read(took)

    def clear(self) -> None:
        self._pending.clear()

    def state_dict(self) -> dict[int, list[float]]:
        """The values still unread, by step. Waits for them."""
        for _, _, done, _ in self._pending:
            if done is not None:
                done.synchronize()
        return {step: values.tolist() for step, values, _, _ in self._pending}

    def times(self) -> dict[int, list[float]]:
        """What the steps took whose values are still unread, as far as it is known. Waits for them."""
        read = {step: _read(took) for step, _, _, took in self._pending}
        return {step: list(times) for step, times in read.items() if times is not None}

    def load_state_dict(self, state: dict[int, list[float]], times: dict[int, list[float]]) -> None:
        """Take back what ``state_dict`` and ``times`` gave."""
        self.clear()
        for step, values in state.items():
            self._pending.append((step, torch.tensor(values), None, Times(*times[step]) if step in times else None))


def _read(took: PendingTimes | Times | None) -> Times | None:
    return took.read() if isinstance(took, PendingTimes) else took
