"""Times every kernel's candidates on this GPU, for the shapes that the networks meet, and writes the best down.

    python benchmarks/tune.py --seconds 120

What the kernels ship is their ``Candidates``; a choice is noted in ``tuned.json`` only if it beats the default by 3 %.
The shapes come first that matter most, and the time limit stops between kernels; a choice is written down as soon as it
is made. Values are random: on zeros a GPU is faster than on data. A candidate that computes something else than the
default is not chosen; whether the default is right is for the tests to say.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import torch
from dan_fast_kernels import configs
from figures import DEVICE, DRY, alive, error, graph_time

from dan_fast import DAN, DANConfig, ops
from dan_fast.errors import DanFastError
from dan_fast.fast_model.v2 import dpcg_weights
from dan_fast.files import atomic_path
from dan_fast.ops import example_calls
from dan_fast.self_test import BOUND, poisoned
from dan_fast.training.presets import PRESETS

# Beside the kernels that are installed, and in the source tree, where it is committed.
PLACES = {configs.TUNED, Path(__file__).parents[1] / "kernels" / "tuned.json"}
GAIN = 1.03

# Networks, batch and size of LR images, whether they learn: one photo, a large one, training.
NETWORKS = ("v2-x4", "v2-0.3M-x4", "v1-x4")
SHAPES = ((1, 510, 340, False), (64, 64, 64, True), (1, 64, 64, False))
if DRY:
    SHAPES = ((1, 5, 7, False), (1, 5, 7, True), (1, 5, 7, False))
DTYPES = (torch.bfloat16, torch.float16, torch.float32)

Key = tuple[str, str]
"""Kernel and shape class."""
Step = Callable[[], Sequence[torch.Tensor]]
"""Runs kernels, and returns all that they computed."""


class Tuner:
    """Stands in for ``configs.choose``: remembers what kernels ask for, and gives them what is being tried."""

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
        """Finds the best candidate of every kernel that ``step`` runs and that was not tuned before."""
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
    """One run of each operator, most important first: forward; then forward and backward, where a network learns."""
    for dtype in DTYPES:
        for batch, height, width, learns in SHAPES:
            for network in NETWORKS:
                config: DANConfig = PRESETS[network].config
                if config.version == "v2" and not learns:
                    yield partial(estimator_body, config, batch, height, width, dtype)
                for gradients in (False, True)[:1 + learns]:
                    for call in example_calls.calls(config, batch, height, width, dtype, DEVICE):
                        if call.differentiable or not gradients:
                            example_calls.fill(call)
                            yield partial(one, call, gradients)


def estimator_body(config: DANConfig, batch: int, height: int, width: int, dtype: torch.dtype
                   ) -> tuple[torch.Tensor, ...]:
    """Whose two kernels have configurations of their own; it is for inference."""
    with torch.inference_mode():
        return ops.dpcg(*_estimator_body(config, batch, height, width, dtype)),


@cache
def _estimator_body(config: DANConfig, batch: int, height: int, width: int, dtype: torch.dtype) -> tuple:
    estimator = DAN(config).Estimator.requires_grad_(False).to(DEVICE, dtype).to(memory_format=torch.channels_last)
    x, z = (torch.randn(batch, config.estimator_channels, height, width, device=DEVICE).to(dtype) for _ in range(2))
    return x, z, dpcg_weights(estimator)


def one(call, gradients: bool) -> tuple[torch.Tensor, ...]:
    # Tensors that learn must not be made in inference mode, which the timing is in.
    with torch.inference_mode(not gradients), torch.set_grad_enabled(gradients):
        return example_calls.compute(call, gradients)


def seconds_of(step: Step) -> float:
    """Median of a call, from a CUDA graph."""
    return graph_time(step, calls=5, rounds=5).us / 1e6


def write(path: Path, device: str, better: dict[Key, configs.Config], tuned: set[Key]) -> None:
    """Puts the choices for ``device`` into the file: those of the ``tuned`` kernels are replaced, others stay."""
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
                except DanFastError as reason:  # it is left out, or does not take this
                    print(reason)
                except Exception as reason:  # as with candidates
                    failed += 1
                    print(f"an operator does not run: {' '.join(str(reason).split())[:200]}")
                    if not alive():
                        break
                if len(tuner.options) > known:  # at once: the machine may be gone before the end
                    for path in places:
                        write(path, torch.cuda.get_device_name(), tuner.better, set(tuner.options))
            else:
                complete = True
    except KeyboardInterrupt:  # gpu-check ends it so, when there is no more time
        pass
    finally:
        configs.choose = original
    print(f"tuned {len(tuner.options)} kernels and shape classes, {len(tuner.better)} of them away from the default"
          + (f"; {failed} operators did not run" if failed else "")
          + ("" if complete else "; it ended before the last shape"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
