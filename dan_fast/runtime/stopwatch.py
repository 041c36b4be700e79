"""Where the time went: seconds by stage, without waiting for a GPU."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    """``with stopwatch("body"): …`` adds to ``stopwatch.seconds()["body"]``.

    On a GPU two events are recorded around what is launched inside, and read when somebody asks; not while a CUDA
    graph is captured. Several threads may use one.
    """

    # Events not read yet, beyond which the finished ones are added up: else they would pile up.
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
        """By stage, in the order in which the stages first ended. Waits for the GPU."""
        events, self._events = self._events, []
        for stage, begin, end in events:
            end.synchronize()
            self._seconds[stage] += begin.elapsed_time(end) / 1000
        return dict(self._seconds)
