"""The plan of a network against the plain model, eager channels_last, on the CPU: the whole network, 4 iterations.

    pytest benchmarks/bench_plan.py --benchmark-json=out.json

``ratio`` in ``extra_info`` is of the medians, both timed in turn (above 1: the plan is faster).
"""

from __future__ import annotations

import pytest
import torch

import dan_fast
from dan_fast.inference.plan import plan_for


def network(name: str) -> dan_fast.DAN:
    torch.manual_seed(0)
    model = dan_fast.DAN(dan_fast.DANConfig()) if name == "published v2" else dan_fast.load(name)
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["published v2", "default"])
@pytest.mark.parametrize("side", [64, 128, 256])
def test_whole_network(compare, name, side):
    model = network(name)
    plan = plan_for(model)
    lr = torch.rand(1, 3, side, side).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = model(lr).sr
        assert (plan.sr(lr) - expected).abs().max() <= 1e-4 * expected.abs().max()
    compare(lambda: plan.sr(lr), lambda: model(lr), rounds=3 if name != "default" and side > 100 else 7,
            shape=list(lr.shape), weights=name, dtype="float32", against="the model, channels_last")
