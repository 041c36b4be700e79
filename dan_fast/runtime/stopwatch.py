"""Seconds spent per stage, measured without waiting for a GPU."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """``with stopwatch("body"): …`` adds to ``stopwatch.seconds()["body"]``.

    On a GPU two events are recorded, before and after the work that is launched inside, and read by ``seconds``. While
    a CUDA graph is captured, nothing is recorded. Several threads may share a stopwatch.
    """

    # The largest number of unread events; beyond it they are read and added up.
    PENDING = 1000

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        if not self._cuda:
            start = time.perf_counter()
            yield
            self._seconds[stage] += time.perf_counter() - start
            return
        if torch.cuda.is_current_stream_capturing():
            yield
            return
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        yield
        end.record()
        self._events.append((stage, begin, end))
        if len(self._events) > self.PENDING:
            self.seconds()

    def seconds(self) -> dict[str, float]:
        """Return the seconds by stage, in the order in which stages first ended. Waits for the GPU."""
        events, self._events = self._events, []
        for stage, begin, end in events:
            end.synchronize()
            self._seconds[stage] += begin.elapsed_time(end) / 1000
        return dict(self._seconds)
