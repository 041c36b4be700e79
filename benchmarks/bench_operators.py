"""Every operator with fast code, in turn with PyTorch and torch.compile, and beside its floor.

    pytest benchmarks/bench_operators.py --benchmark-json=out.json
    pytest benchmarks/bench_operators.py -k "cpu and dpcb_stack and 128x128"
    pytest benchmarks/bench_operators.py -k "learns and dpcb"

Which operators, with which arguments, and PyTorch's side: ``operators.py``. ``blur_downsample`` has a file of its own.
On a GPU all sides run from CUDA graphs, in bfloat16; on a CPU in float32, with OMP_NUM_THREADS threads.

``extra_info`` holds the ratios of the medians (above 1: ours is faster). ``floor_s`` is the longer of two times: that
of the multiplications at the rate of a large matrix product, and that of reading the arguments and writing the results
at the rate of a large copy. On a CPU torch.compile takes minutes for a network's body: ``DAN_FAST_BENCH=all`` includes
it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import pytest
import torch
from figures import DRY
from gpu import captured
from operators import NETWORKS, all_calls, config_of, once, plain
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dan_fast.fast_model.cost import WINOGRAD
from dan_fast.ops.example_calls import Call, fill

# Batch, height and width of LR images: single ones, and as networks train.
INFERENCE = {"cpu": [(1, 64, 64), (1, 128, 128), (1, 256, 256)], "cuda": [(1, 64, 64), (1, 340, 510)]}
TRAINING = {("cpu", "v2"): (4, 64, 64), ("cpu", "v2-small"): (8, 32, 32),
            ("cuda", "v2"): (64, 64, 64), ("cuda", "v1"): (64, 64, 64), ("cuda", "v2-small"): (64, 64, 64)}
if DRY:
    INFERENCE, TRAINING = {"cpu": [(1, 5, 7)]}, {("cpu", "v2-small"): (1, 5, 7)}
COMPILES_FOR_MINUTES = ("dpcb_stack", "crb_stack")
# On a CPU these need a quarter of a 3x3 convolution's multiplications.
BY_WINOGRAD = ("conv3x3_bias", "conv3x3_bias_lrelu", "conv3x3_scale_residual", "dpcb", "dpcb_stack", "dpcg",
               "crb_stack")
# Allowed errors, as a share of the norm of a result.
BOUND = {torch.float32: 1e-3, torch.bfloat16: 5e-2}


def has_fast_code(call: Call, device: str) -> bool:
    """Whether the operator has code of its own there: Triton kernels on a GPU, the extension on a CPU."""
    return device == "cuda" or hasattr(torch.ops.dan_fast, f"{call.operator.__name__}_cpp")


def cases() -> Iterator[object]:
    """Yield device, network, shape of the images, number of the call and whether it learns, for each benchmark."""
    for device in INFERENCE:
        for network in NETWORKS:
            found = list(all_calls(config_of(network), 1, 4, 4, torch.float32, "cpu"))
            sizes = [(size, False) for size in INFERENCE[device]]
            sizes += [(TRAINING[device, network], True)] if (device, network) in TRAINING else []
            for size, learns in sizes:
                names: list[str] = []
                for number, call in enumerate(found):
                    if has_fast_code(call, device) and (call.differentiable or not learns):
                        names.append(call.operator.__name__)
                        again = names.count(names[-1])
                        yield pytest.param(
                            device, network, size, number, learns, marks=[pytest.mark.gpu] * (device == "cuda"),
                            id="-".join(filter(None, (names[-1], str(again) * (again > 1), device, network,
                                                      f"{size[0]}x{size[2]}x{size[1]}", "learns" * learns))))


@pytest.mark.usefixtures("warm_allocator")
@pytest.mark.parametrize("device, network, size, number, learns", list(cases()))
def test_operator(compare, floor, device, network, size, number, learns):
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(0)
    call = list(all_calls(config_of(network), *size, dtype, device))[number]
    fill(call)
    name, others = call.operator.__name__, plain(call)
    found, expected = once(call, learns), once(others, learns)
    for one, other in zip(found, expected, strict=True):
        assert (one.double() - other.double()).norm() <= BOUND[dtype] * other.double().norm()
    with FlopCounterMode(display=False) as counter:
        once(others, learns)
    work = counter.get_total_flops() / 2 * (WINOGRAD if device == "cpu" and name in BY_WINOGRAD else 1)
    sides = {"eager PyTorch": others}
    if not DRY and (device == "cuda" or name not in COMPILES_FOR_MINUTES or os.environ.get("DAN_FAST_BENCH") == "all"):
        sides["torch.compile"] = others._replace(operator=torch.compile(others.operator, dynamic=False))
    ours, *references = (partial(once, one, learns) for one in (call, *sides.values()))
    repeats = 1
    if device == "cuda":
        repeats = 50 if size[0] * size[1] * size[2] < 2**14 else 10
        ours, *references = (captured(function, repeats) for function in (ours, *references))
    compare(ours, dict(zip(sides, references, strict=True)), device=device, calls=repeats, inference=not learns,
            rounds=15 if work < 2e10 else 5, operator=name, network=network, images=list(size), learns=learns,
            dtype=str(dtype), floor_s=floor(device, dtype, work, bytes_of((*call.arguments.values(), *found))))


def bytes_of(values: object) -> int:
    """Return the memory of all tensors in ``values``, also of those in its lists and tuples."""
    if isinstance(values, Tensor):
        return values.numel() * values.element_size()
    return sum(map(bytes_of, values)) if isinstance(values, (list, tuple)) else 0
