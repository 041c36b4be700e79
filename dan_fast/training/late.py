"""Results of a GPU, read some steps late, so that nobody waits for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

import torch
from torch import Tensor


class LateReader:
    """Holds the values of the last ``lag`` steps; older ones have long been computed when they are read.

    The lag is the same wherever it runs, so that what follows from the values, a roll back for example, does too.
    """

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self._pending: deque[tuple[int, Tensor, torch.cuda.Event | None, float]] = deque()

    def push(self, step: int, values: Tensor) -> None:
        """Note ``values`` (n,) of ``step``. They may be overwritten afterwards."""
        if values.is_cuda:
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
            self._pending.append((step, host, done, time.perf_counter()))
        else:
            self._pending.append((step, values.clone(), None, time.perf_counter()))

    def late(self, lag: int | None = None) -> Iterator[tuple[int, list[float], float]]:
        """Removes and yields all but the last ``lag`` (default: the reader's), oldest first.

        With each step and its values comes when it was done, in seconds of ``time.perf_counter()``: when ``push`` was
        called, or, on a GPU that was still busy with it, now.
        """
        while len(self._pending) > (self.lag if lag is None else lag):
            step, values, done, finished = self._pending.popleft()
            if done is not None and not done.query():
                done.synchronize()
                finished = time.perf_counter()
            yield step, values.tolist(), finished

    def clear(self) -> None:
        self._pending.clear()

    def state_dict(self) -> dict[int, list[float]]:
        """What is still unread, by step. Waits for it."""
        for _, _, done, _ in self._pending:
            if done is not None:
                done.synchronize()
        return {step: values.tolist() for step, values, _, _ in self._pending}

    def load_state_dict(self, state: dict[int, list[float]]) -> None:
        self.clear()
        for step, values in state.items():
            self._pending.append((step, torch.tensor(values), None, time.perf_counter()))
