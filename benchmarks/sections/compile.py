"""The best that PyTorch does by itself: the plain Restorer from CUDA graphs, eager and compiled.

It is the last section, as compiling takes long.
"""

from __future__ import annotations

import time

import torch
from figures import DEVICE, DRY, graph_time, note, synchronize

import dan_fast
from sections.infer import network


def measure() -> None:
    dtype = torch.float32 if DRY else torch.bfloat16
    model = network("v2").to(DEVICE, dtype).to(memory_format=torch.channels_last)
    for height, width in ((12, 16),) if DRY else ((64, 64), (340, 510)):
        lr = torch.rand(1, 3, height, width, device=DEVICE).to(dtype).contiguous(memory_format=torch.channels_last)
        _restorer(model, lr, f"{width}x{height}")


def _restorer(model: dan_fast.DAN, lr: torch.Tensor, size: str) -> None:
    restorer, code = model.Restorer, model.init_ker_map
    about = {"size": size, "dtype": str(lr.dtype)}
    with torch.inference_mode():
        note(what="the plain Restorer, one pass, eager, from a graph",
             ms=graph_time(lambda: restorer(lr, code), 2).us / 1000, **about)
        compiled = torch.compile(restorer, dynamic=False, backend="eager" if DRY else "inductor")
        start = time.perf_counter()
        compiled(lr, code)
        synchronize()
        note(what="torch.compile took", s=time.perf_counter() - start, **about)
        note(what="the plain Restorer, one pass, torch.compile, from a graph",
             ms=graph_time(lambda: compiled(lr, code), 2).us / 1000, **about)
