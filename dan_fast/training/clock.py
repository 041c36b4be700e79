"""How long steps take, measured where they end; a GPU is not waited for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor


class Times(NamedTuple):
    """Seconds from the end of the step before to the end of this one, and those of them spent waiting for images."""

    seconds: float
    waited: float


class Moment:
    """Now; on a GPU the moment when it has done what it was given until now."""

    def __init__(self, device: torch.device) -> None:
        self._event: torch.cuda.Event | None = None
        if device.type == "cuda":
            self._event = torch.cuda.Event(enable_timing=True)
            self._event.record(torch.cuda.current_stream(device))
        self._seconds = time.perf_counter()

    def since(self, earlier: Moment) -> float:
        """Seconds. Waits for the GPU if this moment is still to come there."""
        if self._event is None or earlier._event is None:
            return self._seconds - earlier._seconds
        self._event.synchronize()
        return earlier._event.elapsed_time(self._event) / 1000


class PendingTimes:
    """What one step took, to be read when the GPU is done with it.

    Args:
        spans: when the time for the step began and ended, and so on if it was interrupted.
        waited: seconds of it spent waiting for images.
    """

    def __init__(self, spans: list[tuple[Moment, Moment]], waited: float) -> None:
        self._spans, self._waited = spans, waited

    def read(self) -> Times:
        return Times(sum(end.since(begin) for begin, end in self._spans), self._waited)


class StepClock:
    """Runs from ``start()`` on; every second counts for the step that ends next, but for those ``paused``."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.start()

    def start(self) -> None:
        """What was before counts for no step."""
        self._begin = Moment(self._device)
        self._spans: list[tuple[Moment, Moment]] = []
        self._waited = 0.0

    def step_ended(self) -> PendingTimes:
        """What the step took of which the last part was just launched."""
        end = Moment(self._device)
        took = PendingTimes([*self._spans, (self._begin, end)], self._waited)
        self._begin, self._spans, self._waited = end, [], 0.0
        return took

    def waiting_for(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """``batches``; the time until each is there counts as waiting."""
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
        """What is done inside is no step's time; a GPU must have done it by the end."""
        self._spans.append((self._begin, Moment(self._device)))
        try:
            yield
        finally:
            self._begin = Moment(self._device)
