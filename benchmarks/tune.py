"""Times the candidate configurations of every Triton kernel on this GPU, and writes the best ones down.

    python benchmarks/tune.py --seconds 120

A Triton kernel ships with ``Candidates``; ``tuned.json`` gets a choice only if it beats the default, which is the first
candidate, by 3 %. The shapes are those of the networks, the most important first; the time limit stops between GPU
kernels, and a choice is written down as soon as it is made. Values are random: on zeros a GPU is faster than on data.
A candidate whose results differ from the default's is not chosen; tests check that the default is right.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from dan_fast_kernels import configs
from figures import DEVICE, DRY, alive, error, graph_time
from operators import once, stack_calls

from dan_fast import DANConfig, ops
from dan_fast.errors import DanFastError
from dan_fast.files import atomic_path
from dan_fast.ops import example_calls
from dan_fast.self_test import BOUND, poisoned
from dan_fast.training.presets import PRESETS

# Beside the installed kernels, where it is read, and in the source tree, where it is committed.
PLACES = {configs.TUNED, Path(__file__).parents[1] / "kernels" / "tuned.json"}
GAIN = 1.03

# The shapes are batch, height and width of LR images, and whether the network learns: a large photo, training, a small
# photo.
NETWORKS = ("v2-x4", "v2-0.3M-x4", "v1-x4")
SHAPES = ((1, 510, 340, False), (64, 64, 64, True), (1, 64, 64, False))
if DRY:
    SHAPES = ((1, 5, 7, False), (1, 5, 7, True), (1, 5, 7, False))
DTYPES = (torch.bfloat16, torch.float16, torch.float32)

Key = tuple[str, str]
"""Name of a Triton kernel, and shape class."""
Step = Callable[[], Sequence[torch.Tensor]]
"""Launches GPU kernels and returns all their results."""


class Tuner:
    """Replaces ``configs.choose``: notes which Triton kernels ask for a configuration, and returns the one on trial."""

    def __init__(self, capability: int) -> None:
        self.capability = capability
        self.options: dict[Key, Sequence[configs.Config]] = {}
        self.current: dict[Key, configs.Config] = {}
        self.better: dict[Key, configs.Config] = {}

    def choose(self, kernel: str, shape_class: str, candidates: configs.Candidates, device: torch.device
               ) -> configs.Config:
        key = kernel, shape_class
        if key not in self.options:
            self.options[key] = configs.candidates_for(candidates, self.capability)
            self.current[key] = self.options[key][0]
        return self.current[key]

    def tune(self, step: Step, seconds_of: Callable[[Step], float]) -> None:
        """Finds the best candidate of every Triton kernel that ``step`` launches and that was not tuned before."""
        before = set(self.options)
        with poisoned():
            expected = step()
        for key, options in list(self.options.items()):
            if key not in before:
                self._best(key, options, step, seconds_of, expected)

    def _best(self, key: Key, options: Sequence[configs.Config], step: Step, seconds_of: Callable[[Step], float],
              expected: Sequence[torch.Tensor]) -> None:
        seconds = []
        for option in options:
            self.current[key] = option
            try:
                with poisoned():
                    found = step()
                off = max((error(one, other) for one, other in zip(found, expected, strict=True)), default=0.0)
                if not off <= BOUND:  # nor NaN
                    raise ValueError(f"its results are {off:.2g} of their norm away from the default's")
                seconds.append(seconds_of(step))
            except Exception as reason:  # a candidate that does not run here costs only itself
                print(f"{' '.join(key)}: {option} does not run: {' '.join(str(reason).split())[:200]}")
                seconds.append(float("inf"))
        fastest = min(range(len(options)), key=seconds.__getitem__)
        if seconds[0] < GAIN * seconds[fastest]:
            fastest = 0
        self.current[key] = options[fastest]
        if fastest:
            self.better[key] = options[fastest]
        print(f"{' '.join(key)}: {', '.join(f'{1e6 * s:.1f}' for s in seconds)} us, takes number {fastest}")


def steps() -> Iterator[Step]:
    """Yields one call of each operator, most important first: forward, and backward where the network learns."""
    for dtype in DTYPES:
        for batch, height, width, learns in SHAPES:
            for network in NETWORKS:
                config: DANConfig = PRESETS[network].config
                shape = batch, height, width, dtype, DEVICE
                if config.version == "v2" and not learns:  # two GPU kernels have configurations of their own there
                    yield partial(once, estimator_body(config, *shape), False)
                for gradients in (False, True)[:1 + learns]:
                    for call in example_calls.calls(config, *shape):
                        if call.differentiable or not gradients:
                            example_calls.fill(call)
                            yield partial(once, call, gradients)


def estimator_body(config: DANConfig, *shape: Any) -> example_calls.Call:
    return next(call for call in stack_calls(config, *shape) if call.operator is ops.dpcg)


def seconds_of(step: Step) -> float:
    """Returns the median time of a step, from a CUDA graph."""
    return graph_time(step, calls=5, rounds=5).us / 1e6


def write(path: Path, device: str, better: dict[Key, configs.Config], tuned: set[Key]) -> None:
    """Writes the choices for ``device`` into the file; those for other devices and other GPU kernels stay."""
    content = json.loads(path.read_text()) if path.is_file() else {}
    kernels = content.setdefault(device, {})
    for kernel, shape_class in tuned:
        kernels.get(kernel, {}).pop(shape_class, None)
    for (kernel, shape_class), config in better.items():
        kernels.setdefault(kernel, {})[shape_class] = config
    content[device] = {kernel: choices for kernel, choices in kernels.items() if choices}
    with atomic_path(path) as part:
        part.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120, help="stop after this long (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the choices to this file too")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    places = PLACES | ({args.out} if args.out else set())
    if not DRY and not torch.cuda.is_available():
        sys.exit("tune: no NVIDIA GPU that torch can use")
    tuner, failed, complete = Tuner(configs.capability(DEVICE)), 0, False
    original, configs.choose = configs.choose, tuner.choose
    try:
        with ops.backend("torch" if DRY else "triton"):
            for step in steps():
                if time.monotonic() > end:
                    break
                known = len(tuner.options)
                try:
                    tuner.tune(step, seconds_of)
                except DanFastError as reason:  # the operator is left out, or does not take these arguments
                    print(reason)
                except Exception as reason:  # as with candidates
                    failed += 1
                    print(f"an operator does not run: {' '.join(str(reason).split())[:200]}")
                    if not alive():
                        break
                if len(tuner.options) > known:  # now, as the machine may be gone before the end
                    for path in places:
                        write(path, torch.cuda.get_device_name(), tuner.better, set(tuner.options))
            else:
                complete = True
    except KeyboardInterrupt:  # from gpu-check, when the section's time is up
        pass
    finally:
        configs.choose = original
    print(f"tuned {len(tuner.options)} kernels and shape classes, {len(tuner.better)} of them away from the default"
          + (f"; {failed} operators did not run" if failed else "")
          + ("" if complete else "; it ended before the last shape"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
