"""A training step against the plain eager loop that builds the graphs of all iterations: time and peak memory.

With ``all``, gradients flow through all iterations and both sides need them.

    pytest benchmarks/bench_training.py --benchmark-json=out.json
    python benchmarks/bench_training.py plain|ours PRESET last|all      # one side alone, in its own process

``ratio`` in ``extra_info`` is of the medians of the steps, both timed in turn; ``memory_ratio`` of what each adds to
the peak memory of a process of its own before its first step (below 1: ours takes less).
"""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from gpu import require_gpu
from torch.nn.utils import clip_grad_norm_

from dan_fast.model import DAN
from dan_fast.training.presets import Preset, get_preset
from dan_fast.training.step import TrainingStep

STEPS = 3


def plain(preset: Preset, model: DAN) -> Callable[[torch.Tensor], object]:
    """As it is usually written: every iteration under autograd; for ``last`` cut off from the one before by detach."""
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).requires_grad_(False)
    settings = preset.training
    optimizer = torch.optim.Adam(model.parameters(), settings.learning_rate, betas=(0.9, 0.99), fused=True)

    def step(hr: torch.Tensor) -> float:
        sharp = hr.float().div(255)
        lr, kernel = preset.degradation(sharp, torch.Generator(hr.device).manual_seed(0))
        lr = lr.contiguous(memory_format=torch.channels_last)
        code = model.init_ker_map.expand(len(lr), -1)
        outputs = []
        for _ in range(preset.config.iterations):
            outputs.append(model.step(lr, code.detach() if preset.config.gradient == "last" else code))
            code = outputs[-1].code
        loss = F.l1_loss(outputs[-1].sr, sharp) + settings.kernel_weight * F.l1_loss(outputs[-1].kernel, kernel)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - settings.ema)
        return loss.item()
    return step


def ours(preset: Preset, model: DAN) -> Callable[[torch.Tensor], object]:
    take = TrainingStep(model, copy.deepcopy(model).requires_grad_(False), preset.degradation, preset.training,
                        bf16=model.encoder.is_cuda)

    def step(hr: torch.Tensor) -> torch.Tensor:
        return take(hr, seed=0, learning_rate=preset.training.learning_rate, average_weight=0.001,
                    iterations=preset.config.iterations)
    return step


SIDES = {"plain": plain, "ours": ours}


def make(side: str, name: str, gradient: str, device: str = "cpu", batch: int | None = None
         ) -> tuple[Callable[[torch.Tensor], object], torch.Tensor]:
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
    memory = {side: int(subprocess.run([sys.executable, __file__, side, name, gradient], capture_output=True, text=True,
                                       check=True).stdout) for side in SIDES}
    (fast, hr), (reference, _) = make("ours", name, gradient), make("plain", name, gradient)
    preset = get_preset(name)
    compare(lambda: fast(hr), lambda: reference(hr), rounds=9, inference=False, preset=name, gradient=gradient,
            batch=preset.training.batch, patch=preset.training.patch, dtype="float32",
            against="eager autograd through all iterations, channels_last",
            memory_mib={side: round(kib / 1024, 1) for side, kib in memory.items()},
            memory_ratio=memory["ours"] / memory["plain"])


def test_step_of_the_published_network(compare, monkeypatch):
    """One CUDA graph in bfloat16 of 64 patches, against eager float32 with TF32.

    The plain step's activations take 67 GB with 64 patches: where there is not as much room it takes 32, twice.
    """
    require_gpu()
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    batch = 64
    halves = 1 if torch.cuda.get_device_properties(0).total_memory > 100e9 else 2
    made, memory = {}, {}
    for side in ("ours", "plain"):
        made[side] = make(side, "v2-x4", "last", "cuda", batch if side == "ours" else batch // halves)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(5):  # until the graph is there
            made[side][0](made[side][1])
        memory[side] = torch.cuda.max_memory_allocated() - before

    def plain_step() -> None:
        for _ in range(halves):
            made["plain"][0](made["plain"][1])

    compare(lambda: made["ours"][0](made["ours"][1]), plain_step, rounds=7,
            device="cuda", inference=False, preset="v2-x4", batch=batch, patch=64, dtype="bfloat16",
            against=f"eager float32 with TF32 through all iterations, channels_last, in {halves} steps",
            memory_gib={side: round(bytes_ / 2**30, 2) for side, bytes_ in memory.items()},
            memory_ratio=memory["ours"] / memory["plain"])


def peak_kib() -> int:
    """Of this process; ``ru_maxrss`` would be inherited from the parent."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


if __name__ == "__main__":
    one_step, batch = make(*sys.argv[1:])
    before = peak_kib()
    for _ in range(STEPS):
        one_step(batch)
    print(peak_kib() - before)
