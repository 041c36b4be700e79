"""The GPU kernels that take longest in one replayed pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from figures import DEVICE, DRY, note, synchronize
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiler

import dan_fast
from sections.infer import network

TOP = 22


def measure() -> None:
    upscaler = dan_fast.Upscaler(network("v2"), device=DEVICE, dtype=torch.float32 if DRY else torch.bfloat16)
    for height, width in ((12, 16),) if DRY else ((340, 510), (64, 64)):
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        for _ in range(3):
            upscaler(pixels, wants_kernel=False)
        if DRY:
            gpu_kernels_of(partial(upscaler, pixels, wants_kernel=False), f"v2 {width}x{height}")
        for replay in list(upscaler._engine.graphs._replays.values())[-1:]:
            gpu_kernels_of(replay._graph.replay, f"v2 {width}x{height}")


def gpu_kernels_of(replay: Callable[[], object], what: str) -> None:
    """Note the GPU kernels of one replay that take longest."""
    for _ in range(2):
        replay()
    synchronize()
    with profiler(activities=[ProfilerActivity.CPU if DRY else ProfilerActivity.CUDA]) as found:
        replay()
        synchronize()
    spent = "self_cpu_time_total" if DRY else "self_device_time_total"
    rows = sorted(((event.key, event.count, getattr(event, spent)) for event in found.key_averages()
                   if getattr(event, spent) > 0), key=lambda row: -row[2])
    note(what=f"GPU kernels of {what}", launches=sum(row[1] for row in rows), ms=sum(row[2] for row in rows) / 1000)
    for key, count, us in rows[:TOP]:
        note(what=f"GPU kernel of {what}", gpu_kernel=key[:90], launches=count, ms=us / 1000, us=us / count)
