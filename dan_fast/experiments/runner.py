"""Trains an experiment's networks and measures them; what is there already is not done again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..blur_kernels.padding import padded
from ..degradation.eight_bits import from_tensor, to_tensor
from ..errors import DanFastError
from ..evaluation.degraded_set import PROTOCOLS, DegradedSet
from ..evaluation.metrics import kernel_error, psnr, ssim
from ..files import make_folder, write_atomically, write_table
from ..model import DAN
from ..training.checkpoints import Checkpoints
from ..training.config_file import preset_to_dict
from ..training.loop import train
from ..training.run import Run, RunOptions
from .experiment import Experiment, Find, Trial, Variant

RESULTS, SETTINGS = "results.csv", "settings.json"


@dataclass(frozen=True)
class Result:
    """A trial of one trained network, means over the test's images and kernels.

    Attributes:
        psnr_y, ssim_y: on Y, as ``dan_fast.evaluate`` measures them.
        kernel_error: sum of absolute differences, 0 to 2; None where no kernel is estimated.
        code_error: the same of the reduced kernel's code.
        parameters: of the network, all that were trained.
        multiply_adds: for each pixel of the given image, of convolutions and products; as the network was used.
    """

    variant: str
    trial: str
    seed: int
    psnr_y: float
    ssim_y: float
    kernel_error: float | None
    code_error: float
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Bench:
    """Where and on what an experiment runs.

    Args:
        out: the experiment's folder.
        data: training images, as ``PatchDataset`` takes them.
        images: test images, as ``DegradedSet`` takes them.
        device: where to train and test.
        bf16: train in bfloat16.
    """

    out: Path
    data: list[Path]
    images: tuple[tuple[Path, str], ...]
    device: torch.device
    bf16: bool = False


def perform(experiment: Experiment, seeds: int, bench: Bench, say: Callable[[str], None] = print) -> list[Result]:
    """Results of all trials, ``seeds`` of each; new ones are written as soon as they are known.

    Raises:
        DanFastError: the folder holds results of other settings, or training failed.
        KeyboardInterrupt: the user stopped it; what is finished is kept, and a training goes on where it was.
    """
    make_folder(bench.out)
    _check_settings(experiment, bench)
    results = _read(bench.out / RESULTS)
    todo = [(variant, seed) for seed in range(seeds) for variant in experiment.variants
            if (variant.name, seed) not in {(result.variant, result.seed) for result in results}]
    for number, (variant, seed) in enumerate(todo, 1):
        say(f"run {number} of {len(todo)}: {variant.name}, seed {seed}")
        model = _trained(variant, seed, bench)
        results += [_measure(model, variant, trial, seed, bench) for trial in variant.trials]
        write_table(bench.out / RESULTS, [field.name for field in fields(Result)],
                    [list(vars(result).values()) for result in results])
    names = [trial.name for variant in experiment.variants for trial in variant.trials]
    return sorted((result for result in results if result.seed < seeds),
                  key=lambda result: (names.index(result.trial), result.seed))


def _trained(variant: Variant, seed: int, bench: Bench) -> DAN:
    options = RunOptions(bench.out / "runs" / f"{variant.name}-{seed}", bench.device, bench.bf16)
    begun = Checkpoints(options.out / "checkpoints").newest_first()
    run = (Run.resume(options, build=variant.build, loss=variant.loss) if begun
           else Run(variant.preset, seed, options, build=variant.build, loss=variant.loss))
    if run.step < variant.preset.training.steps and not train(run, bench.data):
        raise KeyboardInterrupt
    return run.average


@torch.inference_mode()
def _measure(model: DAN, variant: Variant, trial: Trial, seed: int, bench: Bench) -> Result:
    config = variant.preset.config
    irregular = variant.preset.degradation.irregular if trial.irregular is None else trial.irregular
    degraded = DegradedSet("test", bench.images, config.scale, PROTOCOLS["irregular" if irregular else "gaussian8"])
    measured = []
    for case in degraded:
        kernel = torch.from_numpy(padded(case.kernel, config.kernel_size))[None].to(bench.device)
        out = trial.find(model, to_tensor(case.lr).to(bench.device), kernel)
        image = from_tensor(out.sr.float().cpu())
        measured.append((
            psnr(image, case.hr, crop=config.scale, y_channel=True),
            ssim(image, case.hr, crop=config.scale, y_channel=True),
            np.nan if out.kernel is None else kernel_error(out.kernel[0].float().cpu().numpy(), case.kernel),
            float((out.code - model.encode(kernel)).abs().sum())))
    psnr_y, ssim_y, of_kernel, of_code = np.mean(measured, 0).tolist()
    return Result(variant.name, trial.name, seed, psnr_y, ssim_y, None if np.isnan(of_kernel) else of_kernel, of_code,
                  sum(parameter.numel() for parameter in model.parameters()), _multiply_adds(model, trial.find))


def _multiply_adds(model: DAN, find: Find, side: int = 32) -> int:
    """Of ``find`` for each pixel of an image of ``side`` pixels, the rest of the image's cost included."""
    config = model.config
    lr = torch.zeros(1, config.image_channels, side, side, device=model.encoder.device)
    with FlopCounterMode(display=False) as counter:
        find(model, lr, model.init_kernel)
    return round(counter.get_total_flops() / 2 / side**2)


def _check_settings(experiment: Experiment, bench: Bench) -> None:
    """Results of one folder are of the same settings, or they could not be compared."""
    settings = json.loads(json.dumps({
        "data": [str(path.resolve()) for path in bench.data],
        "test": [str(path.resolve()) for path, _ in bench.images],
        **{variant.name: preset_to_dict(variant.preset) for variant in experiment.variants}}))
    path = bench.out / SETTINGS
    if not path.is_file():
        write_atomically(path, (json.dumps(settings, indent=2) + "\n").encode())
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DanFastError(f"{path}: cannot be read as JSON: {error}; take another --out") from None
    if difference := next(_differences(before, settings), None):
        raise DanFastError(f"{bench.out} holds results of other settings ({difference}): take another --out, "
                           "or the same settings again")


def _differences(before: object, now: object, name: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict) and before.keys() == now.keys():
        for key in before:
            yield from _differences(before[key], now[key], f"{name}.{key}".strip("."))
    elif before != now:
        yield f"{name} was {before} and is {now}"


def _read(path: Path) -> list[Result]:
    if not path.is_file():
        return []
    kinds: dict[str, Callable[[str], Any]] = {
        "variant": str, "trial": str, "seed": int, "parameters": int, "multiply_adds": int}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines: list[dict[str, Any]] = [
                {name: kinds.get(name, float)(text) if text else None for name, text in line.items()}
                for line in csv.DictReader(file)]
        return [Result(**line) for line in lines]
    except (TypeError, ValueError, UnicodeDecodeError) as error:
        raise DanFastError(f"{path}: cannot be read as results of an experiment: {error}; take another --out") from None
