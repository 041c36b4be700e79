"""Writing figures down and timing functions on the GPU, for the sections of gpu-check and for ``tune.py``.

Each figure is a line of JSON in ``results.jsonl``, written as soon as it is known. In a dry run, on a CPU, functions
are called once and their time is 0.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gpu import captured

DRY = os.environ.get("DAN_FAST_DRY") == "1"
DEVICE = torch.device("cpu" if DRY else "cuda")
RESULTS = "results.jsonl"


class Timing(NamedTuple):
    """Times of several rounds.

    Attributes:
        us: the median, in microseconds per call.
        spread: how much the medians of the even and the odd rounds differ, as a share of the larger.
    """

    us: float
    spread: float


def note(**figure: Any) -> None:
    """Write a figure down, with its section and device."""
    line = json.dumps({"section": os.environ.get("DAN_FAST_SECTION", ""), **figure, "device": device_name()},
                      default=str)
    print(line, flush=True)
    with Path(os.environ.get("OUT", "."), RESULTS).open("a") as file:
        file.write(line + "\n")


@cache
def device_name() -> str:
    return torch.cuda.get_device_name(DEVICE) if DEVICE.type == "cuda" else str(DEVICE)


def tried(measure: Callable[[], None], **about: Any) -> None:
    """Call ``measure()``; if it fails, note that as a figure, and end the section only if the device is lost too."""
    try:
        measure()
    except Exception as error:
        note(**about, FAILED=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
        if not alive():
            sys.exit(3)


def alive() -> bool:
    """Whether the device still works for this process: after an illegal access it does not."""
    try:
        synchronize()
    except RuntimeError:
        return False
    return True


def under_load(load: Callable[[], object], query: str) -> dict[str, str]:
    """Return what nvidia-smi reports for the fields of ``query``, while ``load`` is called."""
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    end = time.monotonic() + 5
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None and time.monotonic() < end:
            load()
            synchronize()
        process.kill()
        assert process.stdout is not None
        answer = process.stdout.readline().strip().split(", ")
    return dict(zip(query.split(","), answer, strict=False))


def synchronize() -> None:
    if not DRY:
        torch.cuda.synchronize()


def peak_gib() -> float:
    """Return the peak of the device's memory that this process held, in GiB."""
    return 0.0 if DRY else torch.cuda.max_memory_allocated() / 2**30


def graph_time(function: Callable[[], object], calls: int = 20, rounds: int = 10) -> Timing:
    """Time one call of ``function`` from a CUDA graph of ``calls`` of them: without the CPU's part."""
    if DRY:
        with torch.inference_mode():
            function()
        return Timing(0.0, 0.0)
    found = replay_time(captured(function, calls), rounds)
    return Timing(found.us / calls, found.spread)


def replay_time(replay: Callable[[], object], rounds: int = 10) -> Timing:
    """Time one replay of a CUDA graph."""
    if DRY:
        return Timing(0.0, 0.0)
    for _ in range(2):
        replay()
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        replay()
        end.record()
        end.synchronize()
        times.append(1000 * begin.elapsed_time(end))
    halves = statistics.median(times[::2]), statistics.median(times[1::2])
    return Timing(statistics.median(times), abs(halves[0] - halves[1]) / max(halves))


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the norm of a result's error as a share of the exact one's norm; NaN if a value was not written."""
    exact = exact.double()
    return ((found.double() - exact).norm() / exact.norm().clamp(min=1e-30)).item()
