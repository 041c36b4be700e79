"""GPU kernels that a pass and a training step of the published network launch: for small images, that is their time."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from support.launches import counted

import dan_fast
from dan_fast.fast_model import learning, unroll
from dan_fast.fast_model.alternation import Whole, alternate
from dan_fast.training import step
from dan_fast.training.presets import get_preset

pytestmark = pytest.mark.usefixtures("one_thread")


def test_counts_what_a_gpu_would_launch():
    x, weight, bias = torch.rand(1, 4, 5, 5), torch.rand(4, 4, 3, 3), torch.rand(4)
    with counted() as launches:
        torch.nn.functional.conv2d(x.transpose(2, 3), weight, bias)
        x.double().sum()
        torch._foreach_add_([torch.rand(1) for _ in range(65)], 1)
    assert launches.torch == {"convolution": 1, "bias of a convolution": 1, "copy_": 1, "sum": 1, "uniform_": 65,
                              "_foreach_add_": 2}
    assert launches.total == 71 and not launches.triton


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    return dan_fast.DAN(get_preset("v2-x4").config, torch.rand(21**2, 10) / 100).eval()


def test_a_pass_of_the_published_network(published):
    """64x64: was 634 with biases, before kernels for the upsampler, the heads and both paths of the Estimator."""
    plan = dan_fast.Upscaler(published, dtype=torch.bfloat16).plan
    lr = torch.rand(1, 3, 64, 64)
    with torch.inference_mode(), counted() as launches:
        alternate(plan, Whole(plan, lr), 4, wants_kernel=False)
    assert launches.total <= 450, launches
    print(launches)


def test_a_step_of_the_published_network(published, monkeypatch):
    """In bfloat16: was 24,843, when every value of a cell had a backward pass of its own."""
    preset = get_preset("v2-x4")
    preset = replace(preset, training=replace(preset.training, batch=1, patch=16))
    # As with large batches on a GPU, where convolutions have one kernel for both gradients.
    monkeypatch.setattr(learning, "COLLAPSE_FROM", 0)
    monkeypatch.setattr(unroll, "_plan_pays", lambda model, lr: True)
    model = copy.deepcopy(published).train()
    take = step.TrainingStep(model, copy.deepcopy(model).requires_grad_(False), preset.degradation, preset.training,
                             bf16=True)

    def once() -> None:
        take(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), seed=0, learning_rate=1e-3, average_weight=0.1, iterations=4)
    once()
    with counted() as launches:
        once()
    assert launches.total <= 1750, launches
    assert launches.torch["convolution_backward"] < 200, launches
    print(launches)
