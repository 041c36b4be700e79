"""Measures how long steps take without waiting for a GPU."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor


class StepTimes(NamedTuple):
    """The times of one step.

    Attributes:
        seconds: from the end of the previous step to the end of this one.
        waited: seconds of these spent waiting for images.
    """

    seconds: float
    waited: float


class Moment:
    """The time at which it is made; on a GPU the time at which the work launched before is done."""

    def __init__(self, device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)
            self._event.record(torch.cuda.current_stream(device))
        self._seconds = time.perf_counter()

    def since(self, earlier: Moment) -> float:
        """Seconds since ``earlier``. Waits for the GPU if it has not come to this moment yet."""
        if self._event is None or earlier._event is None:
            return self._seconds - earlier._seconds
        self._event.synchronize()
        return earlier._event.elapsed_time(self._event) / 1000


class PendingTimes:
    """The times of one step, to be read when the GPU is done with it.

    Args:
        spans: beginning and end of every stretch of time that counts for the step.
        waited: seconds of it spent waiting for images.
    """

    def __init__(self, spans: list[tuple[Moment, Moment]], waited: float) -> None:
        self._spans, self._waited = spans, waited

    def read(self) -> StepTimes:
        return StepTimes(sum(end.since(begin) for begin, end in self._spans), self._waited)


class StepClock:
    """Runs from ``start()`` on. Every second counts for the step that ends next, except while it is ``paused``."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.start()

    def start(self) -> None:
        """Start again: no time before this counts."""
        self._begin = Moment(self._device)
        self._spans: list[tuple[Moment, Moment]] = []
        self._waited = 0.0

    def step_ended(self) -> PendingTimes:
        """Return the times of the step whose last work was just launched."""
        end = Moment(self._device)
        times = PendingTimes([*self._spans, (self._begin, end)], self._waited)
        self._begin, self._spans, self._waited = end, [], 0.0
        return times

    def waiting_for(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield ``batches``; the time until each of them is there counts as waiting."""
        source = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(source, None)
            self._waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock for the length of the block, at whose end a GPU must be done with the block's work."""
        self._spans.append((self._begin, Moment(self._device)))
        try:
            yield
        finally:
            self._begin = Moment(self._device)
