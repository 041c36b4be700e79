"""``Upscaler`` on whole images, 8 bits in and out, against the plain model with the same work around it.

Neither side computes the last kernel.

    pytest benchmarks/bench_inference.py --benchmark-json=out.json
    pytest benchmarks/bench_inference.py -k "v2-small and 510x340"

Timed in turn with eager PyTorch and torch.compile (``max-autotune`` on a GPU), channels_last; float32, on a GPU
bfloat16 too. ``extra_info`` has the share of each stage in our time, the share of the engine itself (images, copies,
Python) and on a GPU the peak memory. What would take minutes on a CPU is skipped there.
"""

from __future__ import annotations

import copy
import timeit

import numpy as np
import pytest
import torch
from bench_network import network

import dan_fast
from dan_fast.evaluation.plain_model import upscale_plainly

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZES = [(64, 64), (180, 270), (340, 510), (1080, 1920)]


def references(name: str) -> dict[str, dan_fast.DAN]:
    """The plain model by how it runs: eager or compiled, in float32 and on a GPU in bfloat16 too."""
    models = {}
    for dtype in (torch.float32, torch.bfloat16)[:1 + (DEVICE.type == "cuda")]:
        kind = str(dtype).removeprefix("torch.")
        models[f"eager {kind}"] = copy.deepcopy(network(name)).to(DEVICE, dtype)
        compiled = models[f"torch.compile {kind}"] = copy.deepcopy(network(name)).to(DEVICE, dtype)
        for module in (compiled.Restorer, compiled.Estimator):
            module.compile(dynamic=False, mode="max-autotune" if DEVICE.type == "cuda" else None)
    return models


@pytest.mark.usefixtures("warm_allocator")
@pytest.mark.parametrize("name", ["v2", "v1", "v2-small"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("kernel_from", ["image", "crop"])
def test_upscaler(compare, benchmark, capsys, name, size, batch, kernel_from):
    pixels = batch * size[0] * size[1]
    if DEVICE.type == "cpu" and pixels > (2_000_000 if name == "v2-small" else 200_000):
        pytest.skip("takes minutes on a CPU")
    dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    upscaler = dan_fast.Upscaler(network(name), device=DEVICE, dtype=dtype, kernel_from=kernel_from)
    images = np.random.default_rng(0).integers(0, 256, (batch, *size, 3), np.uint8)

    def fast() -> object:
        return upscaler.batch(list(images), wants_kernel=False)

    for _ in range(3):  # until graphs are captured
        fast()
    before = upscaler.stats().seconds
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        fast()
        facts = {"peak_memory_bytes": torch.cuda.max_memory_allocated()}
    else:
        facts = {}
    # The plain models, which take long to compile, come last: by then our own time is known.
    own = min(timeit.repeat(fast, number=1, repeat=3))
    with capsys.disabled():
        print(f"{name} {images.shape}: {1000 * own:.2f} ms", flush=True)
    models = references(name)
    work = {label: lambda model=model: upscale_plainly(model, images) for label, model in models.items()}
    compare(fast, work, rounds=3 if pixels * (1 if name == "v2-small" else 14) > 500_000 else 9, device=DEVICE.type,
            network=name, shape=list(images.shape), kernel_from=kernel_from, dtype=str(dtype), **facts)
    spent = {stage: seconds - before.get(stage, 0) for stage, seconds in upscaler.stats().seconds.items()}
    total = spent.pop("total")
    benchmark.extra_info.update(
        {f"share of {stage}": seconds / total for stage, seconds in spent.items()},
        **{"share of the engine": 1 - sum(spent.values()) / total})
