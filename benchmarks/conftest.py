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

    The benchmark's own figure is that of ``fast``; ``extra_info`` holds the reference's median, the
    ratio of the medians (above 1: ``fast`` is faster) and the facts. CPU only: nothing waits for a GPU.
    """
    def run(fast: Callable[[], object], reference: Callable[[], object], *, rounds: int = 15, **facts: object) -> None:
        reference_seconds = []

        def time_reference() -> None:
            start = time.perf_counter()
            reference()
            reference_seconds.append(time.perf_counter() - start)

        with torch.inference_mode():
            # setup runs, untimed, before every round.
            benchmark.pedantic(fast, setup=time_reference, rounds=rounds, warmup_rounds=2)
        if benchmark.disabled:
            return
        median = statistics.median(reference_seconds[-rounds:])
        benchmark.extra_info.update(facts, torch_threads=torch.get_num_threads(), reference_median_s=median,
                                    ratio=median / benchmark.stats.stats.median)
    return run
