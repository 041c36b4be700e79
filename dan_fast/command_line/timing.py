"""Where the time of a command over many photos went, as shares of the time that its user waited."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ..inference import UpscalerStats

T = TypeVar("T")
U = TypeVar("U")

WORK = "work"
READ, WRITTEN = "waiting for photos to be read", "waiting for results to be written"


class Clock:
    """Measures one loop over photos, in seconds.

    Attributes:
        own: time of the main thread by activity; activities do not overlap and add up to at most ``total``.
        meanwhile: time of other threads by activity, during the same total.
        total: from the beginning to ``stop()``, or until now.
    """

    def __init__(self) -> None:
        self.own: defaultdict[str, float] = defaultdict(float)
        self.meanwhile: defaultdict[str, float] = defaultdict(float)
        self._start, self._stop = time.perf_counter(), 0.0

    @contextmanager
    def __call__(self, activity: str) -> Iterator[None]:
        """Count the time of the block as ``own``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.own[activity] += time.perf_counter() - start

    def elsewhere(self, activity: str, function: Callable[..., T]) -> Callable[..., T]:
        """``function`` with its time counted as ``meanwhile``; one thread at a time may call it."""
        def timed(*args: object) -> T:
            start = time.perf_counter()
            try:
                return function(*args)
            finally:
                self.meanwhile[activity] += time.perf_counter() - start
        return timed

    def stop(self) -> None:
        self._stop = time.perf_counter()

    @property
    def total(self) -> float:
        return (self._stop or time.perf_counter()) - self._start


def timing_table(clock: Clock, stats: UpscalerStats, on_gpu: bool) -> str:
    """A table of seconds and shares of ``clock.total``, which add up to 100.0 %, and below it the work in parallel.

    On a CPU the network's stages are parts of the total. A GPU works while the main thread goes on, so its stages are
    listed as parallel work.
    """
    stages = {stage: seconds for stage, seconds in stats.seconds.items() if stage != "total"}
    rows = {} if on_gpu else stages
    rows["copies and the rest of upscaling" if rows else "upscaling"] = clock.own[WORK] - sum(rows.values())
    rows |= {READ: clock.own[READ], WRITTEN: clock.own[WRITTEN]}
    rows["the rest"] = clock.total - sum(rows.values())
    lines = [_line(name, seconds, f"{share:6.1f} %") for (name, seconds), share in zip(
        rows.items(), shares(list(rows.values())), strict=True)]
    lines.append(_line("total", clock.total, f"{100:6.1f} %"))
    overlapping = {**clock.meanwhile, **({f"GPU: {stage}": seconds for stage, seconds in stages.items()}
                                         if on_gpu else {})}
    if overlapping:
        lines += ["at the same time:", *(_line(name, seconds) for name, seconds in overlapping.items())]
    if stats.graphs.hits:
        lines.append(f"{stats.graphs.hits} passes as CUDA graphs, whose stages cannot be told apart")
    return "\n".join(lines)


def shares(parts: list[float]) -> list[float]:
    """Each part's percentage of the sum, with one decimal and at least 0. They add up to 100.0: those with the largest
    remainders are rounded up."""
    parts = [max(part, 0.0) for part in parts]
    exact = [1000 * part / (sum(parts) or 1.0) for part in parts]
    whole = [int(value) for value in exact]
    missing = (1000 if sum(parts) else 0) - sum(whole)
    for n in sorted(range(len(parts)), key=lambda n: whole[n] - exact[n])[:missing]:
        whole[n] += 1
    return [value / 10 for value in whole]


def _line(name: str, seconds: float, share: str = "") -> str:
    return f"{name:>34}  {seconds:9.3f} s  {share}".rstrip()
