"""The Triton kernel of ``next_condition`` compiles for every card, for every width that a network may have."""

from __future__ import annotations

import pytest
import torch
from dan_fast_kernels import configs, estimator_tail, next_condition
from support.aot import CAPABILITIES, assert_fits, recorded


@pytest.mark.parametrize("channels, width", [(64, 32), (32, 16), (16, 64)])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_fits(capability, channels, width, monkeypatch):
    monkeypatch.setattr(configs, "capability", lambda device: capability)
    taps, length, count = 21**2, 10, 50
    x = torch.empty(1, width, 64, 64, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
    tail = (torch.empty(2 * width, width, 3, 3), torch.empty(2 * width), torch.empty(taps, 2 * width),
            torch.empty(taps), torch.empty(taps, length))
    path = (torch.empty(channels, length), torch.empty(channels),
            torch.empty(count, channels, channels).transpose(1, 2), torch.empty(count, channels),
            torch.empty(count, channels, channels), torch.empty(count, channels))
    with recorded(estimator_tail), recorded(next_condition) as launches:
        next_condition.forward(x, *tail, *path, 10, "doubled")
    launch, = launches
    assert launch.kernel.__name__ == "tail_and_path_kernel"
    assert_fits(launch, capability)
