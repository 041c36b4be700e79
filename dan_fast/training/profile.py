"""Profiles a few steps: writes a trace for chrome://tracing or Perfetto, and logs milliseconds per part of a step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from ..files import atomic_path

WAIT, WARM_UP, STEPS = 6, 1, 3  # after WAIT steps a GPU's step is one graph
PARTS = ("degradation", "first iterations", "forward", "backward", "update")
log = logging.getLogger("dan_fast.train")


@contextmanager
def step_profiler(path: Path, wanted: bool) -> Iterator[Callable[[], None]]:
    """Yield a function to call after every step; after ``WAIT + WARM_UP + STEPS`` of them the trace is written."""
    if not wanted:
        yield lambda: None
        return

    def write(profiler: profile) -> None:
        with atomic_path(path) as temporary:
            profiler.export_chrome_trace(str(temporary))
        times = {event.key: event.cpu_time_total / 1000 / STEPS for event in profiler.key_averages()}
        parts = ", ".join(f"{part} {times[part]:.1f}" for part in PARTS if part in times)
        log.info("trace of %d steps: %s%s", STEPS, path, f"; ms a step on the CPU: {parts}" if parts else "")

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=activities, schedule=schedule(wait=WAIT, warmup=WARM_UP, active=STEPS, repeat=1),
                 on_trace_ready=write, acc_events=True) as profiler:
        yield profiler.step
