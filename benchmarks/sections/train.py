"""Training steps of 64 patches of 64x64 in bfloat16: eager, captured, replayed; and their longest GPU kernels."""

from __future__ import annotations

import copy
import gc
import time
from dataclasses import replace
from functools import partial

import torch
from figures import DEVICE, DRY, note, peak_gib, replay_time, synchronize, tried

from dan_fast.model import DAN
from dan_fast.training.presets import get_preset
from dan_fast.training.run import choose_what_learns
from dan_fast.training.step import TrainingStep
from sections.profile import gpu_kernels_of

# Presets, and what of each learns.
PRESETS = {"v2-x4": "all", "v2-0.3M-x4": "all", "v2-1.7M-x4": "refiner"}
BATCH, PATCH, STEPS = 64, 64, 8


def measure() -> None:
    for name in ("v2-0.3M-x4",) if DRY else PRESETS:
        tried(partial(_steps, name), preset=name)
        gc.collect()
        if not DRY:
            torch.cuda.empty_cache()


def _steps(name: str) -> None:
    preset, (batch, patch) = get_preset(name), (2, 16) if DRY else (BATCH, PATCH)
    preset = replace(preset, training=replace(preset.training, batch=batch, patch=patch))
    torch.manual_seed(0)
    model = DAN(preset.config, torch.rand(preset.config.kernel_size**2, preset.config.code_length) / 100).to(DEVICE)
    choose_what_learns(model, PRESETS[name])
    step = TrainingStep(model, copy.deepcopy(model).requires_grad_(False), preset.degradation, preset.training,
                        bf16=True)
    side = patch * preset.config.scale
    hr = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device=DEVICE)
    about = {"preset": name, "learns": PRESETS[name], "batch": batch, "patch": patch, "dtype": "bfloat16"}
    seconds, losses = [], []
    for number in range(STEPS):
        start = time.perf_counter()
        report = step(hr, seed=number, learning_rate=1e-4, average_weight=0.01, iterations=preset.config.iterations)
        losses.append(round(report[0].item(), 5))
        seconds.append(round(time.perf_counter() - start, 4))
        note(what=f"step {number + 1}", s=seconds[-1], loss=losses[-1], **about)
    synchronize()
    graph = step._captured[1]._graph if step._captured else None
    timing = replay_time(graph.replay) if graph else None
    note(what="a step", graph_ms=timing and timing.us / 1000, spread=timing and timing.spread,
         call_ms=1000 * min(seconds), peak_gib=peak_gib(), **about)
    if graph:
        gpu_kernels_of(graph.replay, f"a step of {name}")
