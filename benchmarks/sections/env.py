"""The machine: versions, active parts, and the speeds of copies and matrix products that bound all other figures."""

from __future__ import annotations

import statistics
import time

import torch
from figures import DEVICE, DRY, graph_time, note, tried, under_load

from dan_fast import doctor

CARD = "name,driver_version,memory.total,power.limit,clocks.max.sm,clocks.max.mem"
STATE = "clocks.sm,clocks.mem,power.draw,temperature.gpu,pstate"


def measure() -> None:
    note(what="versions", **doctor.versions(), cpu=doctor.cpu().name)
    note(what="parts", **{part.name: str(part) for part in doctor.parts()})
    if DRY:
        return
    tried(lambda: note(what="gpu", **under_load(lambda: time.sleep(0.05), CARD)), what="gpu")
    side = 8192
    a, b = (torch.randn(side, side, device=DEVICE).bfloat16() for _ in range(2))
    us, spread = graph_time(lambda: a @ b, 5)
    note(what=f"matrix product {side}, bfloat16, random", tflops=2 * side**3 / us / 1e6, spread=spread)
    tried(lambda: note(what="gpu during these", **under_load(lambda: [a @ b for _ in range(10)], STATE)),
          what="gpu during these")
    source = torch.randint(0, 256, (1 << 30,), dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    us, spread = graph_time(lambda: target.copy_(source), 3)
    note(what="copy of 1 GiB, read and written", tb_per_second=2 * source.numel() / us / 1e6, spread=spread)
    small = torch.randn(64, device=DEVICE)
    note(what="one small GPU kernel in a graph", us=graph_time(lambda: small.mul_(1), 1000).us)
    start = time.perf_counter()
    for _ in range(50):
        torch.cuda.mem_get_info()
    note(what="asking how much memory is free", us=1e6 * (time.perf_counter() - start) / 50)
    result = torch.randint(0, 256, (2040 * 1360 * 3,), dtype=torch.uint8, device=DEVICE)
    for kind in ("pageable", "pinned"):
        note(what=f"a 510x340 x4 result to the host, {kind}", ms=_milliseconds(result, kind == "pinned"))


def _milliseconds(result: torch.Tensor, pinned: bool) -> float:
    """Time the copy of ``result`` to the host, with the allocation of its memory, as in use."""
    times = []
    for _ in range(9):
        torch.cuda.synchronize()
        start = time.perf_counter()
        torch.empty(result.numel(), dtype=torch.uint8, pin_memory=pinned).copy_(result)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)
