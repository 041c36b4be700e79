"""A training step against two plain eager loops: time and peak memory.

``published loop`` builds the autograd graph of every iteration, as the published training does, although three of four
never get a gradient. ``DAN.iterate`` is this repository's plain model, which runs those three under ``no_grad``. With
``all``, gradients flow through every iteration, and the two loops are one.

    pytest benchmarks/bench_training.py --benchmark-json=out.json
    python benchmarks/bench_training.py "DAN.iterate" PRESET last|all      # one loop alone, in its own process

``extra_info`` holds the ratio of the median times to each loop, all timed in turn (above 1: ours is faster), and in
``memory_mib`` what three steps add to the peak memory of a process of their own.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from dan_fast.model import DAN, DANOutput
from dan_fast.runtime.devices import peak_memory
from dan_fast.training.presets import Preset, get_preset
from dan_fast.training.step import TrainingStep

STEPS = 3
CPU = torch.device("cpu")


def published_loop(model: DAN, lr: Tensor) -> list[DANOutput]:
    """Every iteration's output, each under autograd; where the last one learns, the code is detached in between."""
    code, outputs = model.init_ker_map.expand(len(lr), -1), []
    for _ in range(model.config.iterations):
        outputs.append(model.step(lr, code.detach() if model.config.gradient == "last" else code))
        code = outputs[-1].code
    return outputs


def plain(unrolled: Callable[[DAN, Tensor], list[DANOutput]], preset: Preset, model: DAN) -> Callable[[Tensor], object]:
    """A training step of eager PyTorch in channels_last with a fused Adam; ``unrolled`` runs the iterations."""
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).requires_grad_(False)
    settings = preset.training
    optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate, betas=(0.9, 0.99), fused=True)

    def step(hr: Tensor) -> float:
        sharp = hr.float().div(255)
        lr, kernel = preset.degradation(sharp, torch.Generator(hr.device).manual_seed(0))
        outputs = unrolled(model, lr.contiguous(memory_format=torch.channels_last))  # kept, and their graphs with them
        loss = (F.l1_loss(outputs[-1].sr, sharp)
                + settings.kernel_weight * F.l1_loss(outputs[-1].kernel, kernel))
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - settings.ema)
        return loss.item()
    return step


def ours(preset: Preset, model: DAN) -> Callable[[Tensor], object]:
    training_step = TrainingStep(model, copy.deepcopy(model).requires_grad_(False), preset.degradation, preset.training,
                                 bf16=model.encoder.is_cuda)

    def step(hr: Tensor) -> Tensor:
        return training_step(hr, seed=0, learning_rate=preset.training.learning_rate, average_weight=0.001,
                             iterations=preset.config.iterations)
    return step


SIDES = {"ours": ours, "published loop": partial(plain, published_loop),
         "DAN.iterate": partial(plain, DAN.iterate)}


def make(side: str, name: str, gradient: str, device: str = "cpu", batch: int | None = None
         ) -> tuple[Callable[[Tensor], object], Tensor]:
    """The step of one side, and a batch for it."""
    preset = get_preset(name)
    preset = replace(preset, config=replace(preset.config, gradient=gradient))
    torch.manual_seed(0)
    # The basis of the code costs much memory to fit, and its values do not matter here.
    model = DAN(preset.config, torch.rand(preset.config.kernel_size**2, preset.config.code_length) / 100).to(device)
    side_of_patch = preset.training.patch * preset.config.scale
    shape = (batch or preset.training.batch, 3, side_of_patch, side_of_patch)
    return SIDES[side](preset, model), torch.randint(0, 256, shape, dtype=torch.uint8, device=device)


@pytest.mark.parametrize("name, gradient", [("v2-0.3M-x4", "last"), ("v2-0.3M-x2", "last"), ("v2-0.3M-x4", "all")])
def test_step_cpu(compare, name, gradient):
    sides = [side for side in SIDES if gradient == "last" or side != "DAN.iterate"]
    memory = {side: int(subprocess.run([sys.executable, __file__, side, name, gradient], capture_output=True, text=True,
                                       check=True).stdout) / 2**20 for side in sides}
    steps = {}
    for side in sides:
        step, hr = make(side, name, gradient)
        steps[side] = partial(step, hr)
    preset = get_preset(name)
    compare(steps.pop("ours"), steps, rounds=15, inference=False, preset=name, gradient=gradient,
            batch=preset.training.batch, patch=preset.training.patch, dtype="float32",
            memory_mib={side: round(mib, 1) for side, mib in memory.items()},
            memory_ratio={side: memory["ours"] / memory[side] for side in steps})


@pytest.mark.gpu
def test_step_of_the_published_network(compare, monkeypatch):
    """One CUDA graph in bfloat16 of 64 patches, against eager float32 with TF32.

    The published loop's activations take 67 GB with 64 patches: where there is less room it takes 32, twice.
    """
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    batch = 64
    halves = 1 if torch.cuda.get_device_properties(0).total_memory > 100e9 else 2
    steps, memory = {}, {}
    for side in SIDES:
        parts = halves if side == "published loop" else 1
        step, hr = make(side, "v2-x4", "last", "cuda", batch // parts)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(5):  # until the graph is there
            step(hr)
        memory[side] = torch.cuda.max_memory_allocated() - before

        def whole_batch(step=step, hr=hr, parts=parts) -> None:
            for _ in range(parts):
                step(hr)
        steps[side] = whole_batch
    compare(steps.pop("ours"), steps, rounds=7, device="cuda", inference=False, preset="v2-x4", batch=batch, patch=64,
            dtype="bfloat16", parts_of_the_published_loop=halves,
            memory_gib={side: round(size / 2**30, 2) for side, size in memory.items()})


if __name__ == "__main__":
    one_step, batch = make(*sys.argv[1:])
    before = peak_memory(CPU)
    for _ in range(STEPS):
        one_step(batch)
    print(peak_memory(CPU) - before)
