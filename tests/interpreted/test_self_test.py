"""The self-test of GPU kernels, in the interpreter: it accepts right ones and refuses wrong ones."""

from __future__ import annotations

import pytest
import torch
from dan_fast_kernels import modulate
from dan_fast_kernels.without import PARTS

from dan_fast import self_test

KERNELS = ("conv3x3", "condition_path", "estimator_tail", "modulate", "channel_attention", "convolution", "upsampler")


@pytest.mark.parametrize("part", KERNELS)
def test_kernels_are_fit(part):
    assert part in PARTS and self_test.check(part, torch.get_default_device()) == ""


def test_a_kernel_that_does_not_write_is_found(monkeypatch):
    """Even where memory still holds a right result of the last time: new tensors are filled with NaN."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(False)
    monkeypatch.setattr(modulate, "forward", lambda x, *others: torch.empty_like(x))
    assert self_test.check("modulate", torch.get_default_device()).startswith("modulate, output 0: off by nan ")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("wrong", [lambda out: out * 1.1, lambda out: out.index_fill(1, torch.tensor([3]), torch.nan)],
                         ids=["a factor", "a channel is not written"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_wrong_kernel_is_not(monkeypatch, direction, wrong):
    right = getattr(modulate, direction)

    def kernel(*arguments):
        found = right(*arguments)
        return wrong(found) if direction == "forward" else (found[0], wrong(found[1]), found[2])
    monkeypatch.setattr(modulate, direction, kernel)
    what = "output 0" if direction == "forward" else "gradient of modulation"
    assert self_test.check("modulate", torch.get_default_device()).startswith(f"modulate, {what}: off by ")
