"""Fixtures of benchmarks: comparing implementations in turn, and the speed of the machine itself."""

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


@pytest.hookimpl(tryfirst=True)  # before fixtures
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip benchmarks that are marked ``gpu`` where there is none, with the reason."""
    if item.get_closest_marker("gpu") and (reason := doctor.why_no_gpu()):
        pytest.skip(reason)


def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    machine_info["dan_fast"] = {"versions": doctor.versions(), "cpu": doctor.cpu()._asdict(),
                                "gpus": [str(gpu) for gpu in doctor.gpus()],
                                "parts": {part.name: str(part) for part in doctor.parts()},
                                "machine": platform.machine()}


@pytest.fixture
def compare(benchmark):
    """``compare(fast, reference, **facts)`` times both in turn, so that both meet the same state of the machine.

    The benchmark's own figure is that of ``fast``. ``extra_info`` holds the median of the fastest reference and the
    ratio of that to the median of ``fast`` (above 1: ``fast`` is faster). Where other programs disturb the clock, the
    ``processor ratio`` is of the processor's time that this process took, in all threads.

    Args:
        reference: one function, or several by name; then ``extra_info`` has the median and the ratio of each too.
        device: where all compute; the clock stops when a GPU has finished.
        calls: how many times each does its work per call; ``s_a_call`` is of one of them.
        inference: run in inference mode; ``False`` where autograd is needed.
        facts: what ``extra_info`` holds besides; of ``floor_s`` the share in the time of ``fast``, too.
    """
    def run(fast: Callable[[], object], reference: Callable[[], object] | dict[str, Callable[[], object]], *,
            rounds: int = 15, device: str = "cpu", calls: int = 1, inference: bool = True, **facts: object) -> None:
        references = reference if isinstance(reference, dict) else {"reference": reference}
        seconds: dict[str, list[float]] = {name: [] for name in references}
        processor: dict[str, list[float]] = {name: [] for name in ("", *references)}

        def finished(function: Callable[[], object], name: str = "") -> None:
            start = time.process_time()
            function()
            if device == "cuda":
                torch.cuda.synchronize()
            processor[name].append(time.process_time() - start)

        def time_references() -> None:
            for name, call in references.items():
                start = time.perf_counter()
                finished(call, name)
                seconds[name].append(time.perf_counter() - start)

        with torch.inference_mode(inference):
            # setup runs, untimed, before every round.
            benchmark.pedantic(finished, args=(fast,), setup=time_references, rounds=rounds,
                               warmup_rounds=2 if rounds > 3 else 1)
        if benchmark.disabled:
            return
        medians, processor_medians = ({name: statistics.median(own[-rounds:]) for name, own in times.items()}
                                      for times in (seconds, processor))
        median, own = min(medians.values()), benchmark.stats.stats.median
        if isinstance(reference, dict):
            facts |= {f"ratio to {name}": other / own for name, other in medians.items()}
            facts |= {f"median of {name}, s": other for name, other in medians.items()}
        if device == "cpu":
            facts |= {f"processor ratio to {name}": processor_medians[name] / processor_medians[""]
                      for name in references}
        if isinstance(floor := facts.get("floor_s"), float):
            facts["share of floor"] = floor * calls / own
        benchmark.extra_info.update(facts, device=device, calls=calls, torch_threads=torch.get_num_threads(),
                                    reference_median_s=median, ratio=median / own,
                                    reference_s_a_call=median / calls, s_a_call=own / calls)
    return run


@pytest.fixture
def threads(request):
    """Sets the number of torch's threads to the parameter, for one benchmark."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def warm_allocator() -> None:
    """Make glibc keep freed memory in the process: else each large tensor of PyTorch lies in fresh pages.

    Fresh pages make PyTorch up to two times slower, and would flatter the side that allocates less.
    """
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_max = -1, -4  # <malloc.h>
        mallopt = ctypes.CDLL(None).mallopt
        assert mallopt(mmap_max, 0) and mallopt(trim_threshold, 2**31 - 1)


def fastest(call: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of the fastest of some calls, timed to the end of the device's work."""
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


@pytest.fixture(scope="session")
def rate():
    """``rate(threads)``: multiply-adds per second of a 1024^3 float32 matrix product on this CPU."""
    @functools.cache
    def measured(threads: int) -> float:
        a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
        return 1024**3 / fastest(lambda: a @ b)
    return measured


@pytest.fixture(scope="session")
def floor(rate):
    """``floor(device, dtype, multiply_adds, size)``: seconds that this machine needs at least for the work.

    The longer of two: the multiply-adds at the rate of a large matrix product, and ``size`` bytes, read or written, at
    that of a large copy.
    """
    @functools.cache
    def product_rate(device: str, dtype: torch.dtype, threads: int) -> float:
        if device == "cpu":
            return rate(threads)
        a, b = (torch.randn(8192, 8192, device=device).to(dtype) for _ in range(2))
        return 8192**3 / fastest(lambda: a @ b, device)

    @functools.cache
    def copy_rate(device: str, threads: int) -> float:
        source = torch.zeros(2**28 if device == "cuda" else 2**26, dtype=torch.uint8, device=device)
        target = torch.zeros_like(source)
        return 2 * source.numel() / fastest(lambda: target.copy_(source), device)

    def seconds(device: str, dtype: torch.dtype, multiply_adds: float, size: int) -> float:
        threads = torch.get_num_threads()
        return max(multiply_adds / product_rate(device, dtype, threads), size / copy_rate(device, threads))
    return seconds
