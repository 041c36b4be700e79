"""What every benchmark records about the machine, and how two implementations are compared."""

from __future__ import annotations

import ctypes
import functools
import platform
import statistics
import time
from collections.abc import Callable

from dan_fast.runtime.threads import wait_passively

wait_passively()  # as the commands do, before torch is imported

import pytest  # noqa: E402
import torch  # noqa: E402

from dan_fast import doctor  # noqa: E402


def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    machine_info["dan_fast"] = {"versions": doctor.versions(), "cpu": doctor.cpu(), "gpus": doctor.gpus(),
                                "parts": {part.name: str(part) for part in doctor.parts()},
                                "machine": platform.machine()}


@pytest.fixture
def compare(benchmark):
    """``compare(fast, reference, **facts)`` times both in turn, so that both meet the same state of the machine.

    ``reference`` may be several by name. The benchmark's own figure is that of ``fast``; ``extra_info`` holds the
    median of the references (of each by name, and of the fastest), the ratio of that to the median of ``fast``
    (above 1: ``fast`` is faster) and the facts. ``device`` is where all compute: a GPU is waited for before and after
    each. ``calls``: how often each does it each time that it is called, for seconds a call.
    ``inference=False``: autograd is needed.
    """
    def run(fast: Callable[[], object], reference: Callable[[], object] | dict[str, Callable[[], object]], *,
            rounds: int = 15, device: str = "cpu", calls: int = 1, inference: bool = True, **facts: object) -> None:
        references = reference if isinstance(reference, dict) else {"reference": reference}
        seconds: dict[str, list[float]] = {name: [] for name in references}

        def finished(function: Callable[[], object]) -> None:
            function()
            if device == "cuda":
                torch.cuda.synchronize()

        def time_references() -> None:
            for name, call in references.items():
                start = time.perf_counter()
                finished(call)
                seconds[name].append(time.perf_counter() - start)

        with torch.inference_mode(inference):
            # setup runs, untimed, before every round.
            benchmark.pedantic(finished, args=(fast,), setup=time_references, rounds=rounds,
                               warmup_rounds=2 if rounds > 3 else 1)
        if benchmark.disabled:
            return
        medians = {name: statistics.median(own[-rounds:]) for name, own in seconds.items()}
        median, own = min(medians.values()), benchmark.stats.stats.median
        if isinstance(reference, dict):
            facts |= {f"ratio to {name}": other / own for name, other in medians.items()}
            facts |= {f"median of {name}, s": other for name, other in medians.items()}
        benchmark.extra_info.update(facts, device=device, calls=calls, torch_threads=torch.get_num_threads(),
                                    reference_median_s=median, ratio=median / own,
                                    reference_s_a_call=median / calls, s_a_call=own / calls)
    return run


@pytest.fixture
def threads(request):
    """``torch.set_num_threads`` to the parameter, for one benchmark."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def warm_allocator() -> None:
    """Freed memory stays with the process (glibc): else PyTorch meets fresh pages in each of its large tensors.

    That is slower than it must be, by up to two times, and would flatter whoever allocates less.
    """
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_max = -1, -4  # <malloc.h>
        mallopt = ctypes.CDLL(None).mallopt
        assert mallopt(mmap_max, 0) and mallopt(trim_threshold, 2**31 - 1)


@pytest.fixture(scope="session")
def rate():
    """``rate(threads)``: multiply-adds a second of a 1024^3 float32 matrix product here."""
    @functools.cache
    def measured(threads: int) -> float:
        a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
        seconds = []
        for _ in range(10):
            start = time.perf_counter()
            _ = a @ b
            seconds.append(time.perf_counter() - start)
        return 1024**3 / min(seconds)
    return measured
