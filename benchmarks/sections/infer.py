"""Whole images: the time of ``Upscaler``, the error of its result, and the time of eager PyTorch, in this order."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from figures import DEVICE, DRY, note, peak_gib, replay_time, synchronize, tried

import dan_fast
from dan_fast.evaluation.plain_model import last_sr
from dan_fast.self_test import left_out

NETWORKS = ("v2", "v2-0.3M-x4", "v2-1.7M-x4", "v1")
SIZES = ((64, 64), (340, 510), (180, 270), (1080, 1920))
LARGE = 1_000_000  # LR pixels


def network(name: str) -> dan_fast.DAN:
    """Return trained weights by their name, or ``v1`` or ``v2`` in their published shapes with random weights."""
    torch.manual_seed(0)
    if name in dan_fast.available():
        return dan_fast.load(name)
    small = {"blocks": 2, **({"groups": 1} if name == "v2" else {})} if DRY else {}
    config = dan_fast.DANConfig(version=name, **small)
    return dan_fast.DAN(config, torch.rand(config.kernel_size**2, config.code_length) / 100).eval()


def measure() -> None:
    for name in NETWORKS:
        model = network(name)
        start = time.perf_counter()
        upscaler = dan_fast.Upscaler(model, device=DEVICE, dtype=torch.float32 if DRY else torch.bfloat16)
        synchronize()
        note(what="made ready", network=name, s=time.perf_counter() - start)
        for height, width in ((12, 16),) if DRY else SIZES:
            tried(partial(_image, name, model, upscaler, (height, width)), network=name, size=f"{width}x{height}")


def _image(name: str, model: dan_fast.DAN, upscaler: dan_fast.Upscaler, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    about = {"network": name, "size": f"{size[1]}x{size[0]}", "dtype": str(upscaler.plan.dtype)}
    large = size[0] * size[1] > LARGE
    firsts = [_seconds(lambda: upscaler(pixels, wants_kernel=False)) for _ in range(3)]
    calls = [_seconds(lambda: upscaler(pixels, wants_kernel=False)) for _ in range(3 if large else 11)]
    replays = list(upscaler._engine.graphs._replays.values())
    graph = replay_time(replays[-1]._graph.replay).us / 1000 if replays and not large else None
    note(what="whole call", ms=1000 * statistics.median(calls), graph_ms=graph,
         first_calls_s=[round(seconds, 3) for seconds in firsts], peak_gib=peak_gib(),
         **about)
    note(what="stages in ms, GPU kernels launched one by one", **_stages(upscaler, pixels), **about)
    if large:
        return
    lr = torch.from_numpy(pixels).to(DEVICE).permute(2, 0, 1)[None].float() / 255
    found = upscaler(lr, wants_kernel=False).image  # not rounded to 8 bits
    plain = copy.deepcopy(model).to(DEVICE, upscaler.plan.dtype).to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        truth = last_sr(copy.deepcopy(model).to(DEVICE), lr).clamp(0, 1)
        low = lr.to(upscaler.plan.dtype).contiguous(memory_format=torch.channels_last)
        theirs = last_sr(plain, low).float().clamp(0, 1)
        synchronize()
        eager = statistics.median(_seconds(lambda: (last_sr(plain, low), synchronize())) for _ in range(3))
    note(what="root mean square error to float32", ours=_rms(found - truth), plain=_rms(theirs - truth), **about)
    note(what="the plain model, eager, without images and copies", ms=1000 * eager, **about)


def _stages(upscaler: dan_fast.Upscaler, pixels: np.ndarray) -> dict[str, float]:
    """Time each stage of one call without a CUDA graph, which would hide them.

    With small images these are the times of the launches.
    """
    with left_out("inference_graphs"):
        before = upscaler.stats().seconds
        upscaler(pixels, wants_kernel=False)
        after = upscaler.stats().seconds
    return {stage: round(1000 * (seconds - before.get(stage, 0)), 3) for stage, seconds in after.items()}


def _rms(difference: torch.Tensor) -> float:
    return difference.square().mean().sqrt().item()


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
