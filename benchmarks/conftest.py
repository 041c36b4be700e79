"""What every benchmark records about the machine, and how two implementations are compared."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

import pytest
import torch

from dan_fast import doctor


def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    machine_info["dan_fast"] = {"versions": doctor.versions(), "cpu": doctor.cpu(), "gpus": doctor.gpus(),
                                "parts": {part.name: str(part) for part in doctor.parts()},
                                "machine": platform.machine()}


@pytest.fixture
def compare(benchmark):
    """``compare(fast, reference, **facts)`` times both in turn, so that both meet the same state of the machine.

    The benchmark's own figure is that of ``fast``; ``extra_info`` holds the reference's median, the ratio of the
    medians (above 1: ``fast`` is faster) and the facts. ``device`` is where both compute: a GPU is waited for
    before and after each. ``calls``: how often both do it each time that they are called, for seconds a call.
    ``inference=False``: autograd is needed.
    """
    def run(fast: Callable[[], object], reference: Callable[[], object], *, rounds: int = 15, device: str = "cpu",
            calls: int = 1, inference: bool = True, **facts: object) -> None:
        reference_seconds = []

        def finished(function: Callable[[], object]) -> None:
            function()
            if device == "cuda":
                torch.cuda.synchronize()

        def time_reference() -> None:
            start = time.perf_counter()
            finished(reference)
            reference_seconds.append(time.perf_counter() - start)

        with torch.inference_mode(inference):
            # setup runs, untimed, before every round.
            benchmark.pedantic(finished, args=(fast,), setup=time_reference, rounds=rounds, warmup_rounds=2)
        if benchmark.disabled:
            return
        median = statistics.median(reference_seconds[-rounds:])
        benchmark.extra_info.update(facts, device=device, calls=calls, torch_threads=torch.get_num_threads(),
                                    reference_median_s=median, ratio=median / benchmark.stats.stats.median,
                                    reference_s_a_call=median / calls,
                                    s_a_call=benchmark.stats.stats.median / calls)
    return run
