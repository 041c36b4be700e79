"""Whole networks on a CPU in float32, against PyTorch as it runs best.

    pytest benchmarks/bench_network.py --benchmark-json=out.json
    pytest benchmarks/bench_network.py -k "v2-small and 128x128"

Timed in turn with eager PyTorch, in NCHW and in channels_last, and with torch.compile in channels_last. ``floor_s`` is
the time that the multiplications that are left would take at the rate of a matrix product. The bodies alone are
``dpcb_stack``, ``dpcg`` and ``crb_stack`` in ``bench_operators.py``.

``beside_a_busy_process`` shows what another program on the machine costs; threads wait passively, as they do in the
commands, unless OMP_WAIT_POLICY says otherwise.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache

import pytest
import torch

import dan_fast
from dan_fast.evaluation.plain_model import last_sr
from dan_fast.fast_model import cost
from dan_fast.fast_model.alternation import Whole, alternate
from dan_fast.fast_model.versions import plan_for
from dan_fast.runtime.threads import how_threads_wait

SIZES = [(64, 64), (128, 128), (256, 256), (340, 510)]
NETWORKS = ["v2", "v1", "v2-small"]
pytestmark = [pytest.mark.usefixtures("warm_allocator"), pytest.mark.parametrize("threads", [1, 2], indirect=True)]
every_name = pytest.mark.parametrize("name", NETWORKS)
every_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")


@cache
def network(name: str, channels_last: bool = True) -> dan_fast.DAN:
    """v1, v2: published, random weights; v2-small: the shipped one."""
    torch.manual_seed(0)
    model = dan_fast.load("v2-0.3M-x4") if name == "v2-small" else dan_fast.DAN(dan_fast.DANConfig(version=name))
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return model.eval().requires_grad_(False).to(memory_format=memory_format)  # type: ignore[call-overload]


@cache
def compiled(name: str) -> dan_fast.DAN:
    """Both modules compiled; the loop around them costs nothing."""
    torch.manual_seed(0)
    model = dan_fast.DAN(network(name).config).eval().requires_grad_(False)
    model.load_state_dict(network(name).state_dict())
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.Restorer.compile(dynamic=False)
    model.Estimator.compile(dynamic=False)
    return model


def rounds_of(name: str, size: tuple[int, int]) -> int:
    """Few where one takes seconds."""
    work = cost.published(network(name).config) * size[0] * size[1]
    return 15 if work < 2e10 else 7 if work < 2e11 else 3 if work < 1e12 else 1


@every_name
@every_size
def test_network(compare, rate, name, size, threads):
    model, plain, fused = network(name), network(name, channels_last=False), compiled(name)
    plan, config = plan_for(model), model.config
    lr = torch.rand(1, 3, *size)
    last = lr.contiguous(memory_format=torch.channels_last)

    def planned() -> torch.Tensor:
        whole = Whole(plan, last)
        alternate(plan, whole, config.iterations, wants_kernel=False)
        return whole.sr

    with torch.inference_mode():
        expected = last_sr(model, last)
        assert (planned() - expected).abs().max() <= 1e-4 * expected.abs().max()
    floor = cost.planned(config, wants_kernel=False, winograd=True) * size[0] * size[1] / rate(threads)
    compare(planned, {"NCHW": lambda: last_sr(plain, lr), "channels_last": lambda: last_sr(model, last),
                      "torch.compile": lambda: last_sr(fused, last)},
            rounds=rounds_of(name, size), network=name, shape=list(last.shape), floor_s=floor)


@pytest.fixture(params=[0, 19], ids=lambda nice: f"nice {nice}")
def beside_a_busy_process(request):
    """``beside(call)``: the call while another process computes; that one sleeps otherwise."""
    if os.name == "nt":
        pytest.skip("Windows cannot stop and continue a process")
    busy = subprocess.Popen([sys.executable, "-c", f"import os\nos.nice({request.param})\nwhile True: pass"])
    busy.send_signal(signal.SIGSTOP)

    def beside(call: Callable[[], object]) -> None:
        busy.send_signal(signal.SIGCONT)
        call()
        busy.send_signal(signal.SIGSTOP)

    yield beside
    busy.kill()
    busy.wait()


def test_beside_a_busy_process(compare, threads, beside_a_busy_process):
    """An image and the network in PyTorch; "ratio to alone" is the share of its speed that an image keeps."""
    upscaler, model = dan_fast.Upscaler(network("v2-small")), network("v2-small")
    image = torch.randint(0, 256, (128, 128, 3), dtype=torch.uint8).numpy()
    lr = torch.rand(1, 3, 128, 128).contiguous(memory_format=torch.channels_last)

    def upscale() -> None:
        upscaler(image, wants_kernel=False)

    compare(lambda: beside_a_busy_process(upscale),
            {"alone": upscale, "PyTorch beside it": lambda: beside_a_busy_process(lambda: last_sr(model, lr)),
             "PyTorch alone": lambda: last_sr(model, lr)},
            rounds=25, shape=[128, 128, 3], waiting=how_threads_wait())
