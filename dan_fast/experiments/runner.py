"""Trains an experiment's networks and measures them. Finished results are not computed again."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from ..blur_kernels.padding import padded
from ..degradation.eight_bits import from_tensor, to_tensor
from ..errors import DanFastError
from ..evaluation.degraded_set import PROTOCOLS, Degraded, DegradedSet
from ..evaluation.measure import upscale_cases
from ..files import make_folder, write_atomically, write_table
from ..model import DAN
from ..training.checkpoints import Checkpoints
from ..training.config_file import preset_to_dict
from ..training.loop import train
from ..training.run import Run, RunOptions
from .experiment import Experiment, Predict, Trial, Variant
from .start import Start, check_complete, common_tensors, started_anew

RESULTS, SETTINGS = "results.csv", "settings.json"


@dataclass(frozen=True)
class Result:
    """The figures of one trial of a trained network, means over the images and kernels of the test.

    Attributes:
        psnr_y, ssim_y: on Y, as ``dan-fast evaluate`` measures them.
        kernel_error: sum of absolute differences, 0 to 2; None where no kernel is estimated.
        code_error: sum of absolute differences of the codes.
        parameters: of the network.
        multiply_adds: of convolutions and matrix products per pixel of ``lr``, as the trial uses the network.
        anew: how many of the parameters did not start from given weights; None: there were none.
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
    anew: int | None = None


@dataclass(frozen=True)
class Setup:
    """Where and on which images an experiment is trained and tested.

    Args:
        out: the experiment's folder.
        data: training images, as ``PatchDataset`` takes them.
        images: test images, as ``DegradedSet`` takes them.
        device: where to train and test.
        bf16: train in bfloat16.
        start: weights that the trainings start from, as far as ``common_tensors`` says; None: from random ones.
        trains: False: test the weights of ``start`` as they are.
    """

    out: Path
    data: list[Path]
    images: tuple[tuple[Path, str], ...]
    device: torch.device
    bf16: bool = False
    start: Start | None = None
    trains: bool = True


def perform(experiment: Experiment, seeds: int, setup: Setup, report: Callable[[str], None] = print) -> list[Result]:
    """Train and test what is missing, and return the results of all trials with ``seeds`` seeds.

    Each result is written as soon as it is known.

    Raises:
        DanFastError: the folder holds results of other settings, the weights to start from do not suit the question,
            or training failed.
        KeyboardInterrupt: the user stopped it. Finished results stay, and the next call resumes the training.
    """
    common = common_tensors(experiment, setup.start) if setup.start else None
    if not setup.trains:
        assert setup.start is not None and common is not None
        check_complete(experiment, setup.start, common)
    make_folder(setup.out)
    _check_settings(experiment, setup)
    results = read_results(setup.out / RESULTS)
    names = [trial.name for variant in experiment.variants for trial in variant.trials]
    if unknown := {result.trial for result in results}.difference(names):
        raise DanFastError(f"{setup.out / RESULTS} holds results of another experiment, {min(unknown)!r}: "
                           "take another --out")
    todo = [(variant, seed) for seed in range(seeds) for variant in experiment.variants
            if (variant.name, seed) not in {(result.variant, result.seed) for result in results}]
    for number, (variant, seed) in enumerate(todo, 1):
        report(f"run {number} of {len(todo)}: {variant.name}, seed {seed}")
        model = _trained(variant, seed, setup, common)
        anew = None if common is None else started_anew(model, common)
        results += [_measure(model, variant, trial, seed, setup, anew) for trial in variant.trials]
        write_table(setup.out / RESULTS, [field.name for field in fields(Result)],
                    [list(vars(result).values()) for result in results])
    # Read, so that the figures are rounded as in the file: whoever has the file gets the same table.
    return sorted((result for result in read_results(setup.out / RESULTS) if result.seed < seeds),
                  key=lambda result: (names.index(result.trial), result.seed))


def _trained(variant: Variant, seed: int, setup: Setup, common: frozenset[str] | None) -> DAN:
    options = RunOptions(setup.out / "runs" / f"{variant.name}-{seed}", setup.device, setup.bf16)
    begun = Checkpoints(options.out / "checkpoints").newest_first()
    run = (Run.resume(options, build=variant.build, loss=variant.loss) if begun
           else Run(variant.preset, seed, options, build=variant.build, loss=variant.loss))
    if setup.start and not begun:
        run.start_from(setup.start.network, common)
    if setup.trains and run.step < variant.preset.training.steps and not train(run, setup.data):
        raise KeyboardInterrupt
    return run.average


class _Prediction(NamedTuple):
    """A trial's output for one image. ``kernel`` (k, k) is NaN where only its code is estimated."""

    image: np.ndarray
    kernel: np.ndarray | None
    code_error: float


@torch.inference_mode()
def _measure(model: DAN, variant: Variant, trial: Trial, seed: int, setup: Setup, anew: int | None) -> Result:
    config = variant.preset.config
    irregular = variant.preset.degradation.irregular if trial.irregular is None else trial.irregular
    degraded = DegradedSet("test", setup.images, config.scale, PROTOCOLS["irregular" if irregular else "gaussian8"])

    def predict(case: Degraded) -> _Prediction:
        assert case.kernel is not None  # a DegradedSet knows its kernels
        kernel = torch.from_numpy(padded(case.kernel, config.kernel_size))[None].to(setup.device)
        out = trial.predict(model, to_tensor(case.lr).to(setup.device), kernel)
        return _Prediction(from_tensor(out.sr.float().cpu()),
                           None if out.kernel is None else out.kernel[0].float().cpu().numpy(),
                           float((out.code - model.encode(kernel)).abs().sum()))

    psnr_y, ssim_y, kernel_error, code_error = np.mean(
        [(upscaled.psnr_y, upscaled.ssim_y, upscaled.kernel_error, upscaled.result.code_error)
         for upscaled in upscale_cases(degraded, predict, config.scale)], 0).tolist()
    if not np.isfinite((psnr_y, ssim_y, code_error)).all():
        raise DanFastError(f"{trial.name}, seed {seed}: its results are not finite, the training diverged: expected "
                           "more steps or a lower learning rate, in another --out")
    return Result(variant.name, trial.name, seed, psnr_y, ssim_y, None if np.isnan(kernel_error) else kernel_error,
                  code_error, sum(parameter.numel() for parameter in model.parameters()),
                  multiply_adds(model, trial.predict), anew)


def multiply_adds(model: DAN, predict: Predict, side: int = 32) -> int:
    """Count the multiply-adds of ``predict`` per pixel of an image of ``side`` x ``side`` pixels.

    What is computed once per image is shared out among its pixels.
    """
    config = model.config
    lr = torch.zeros(1, config.image_channels, side, side, device=model.encoder.device)
    training = model.training
    model.eval()  # while it is trained it consists of operators, which cannot be counted
    try:
        with FlopCounterMode(display=False) as counter:
            predict(model, lr, model.init_kernel)
    finally:
        model.train(training)
    return round(counter.get_total_flops() / 2 / side**2)


def _check_settings(experiment: Experiment, setup: Setup) -> None:
    """Note the settings in the folder, or raise DanFastError if it holds results of other ones."""
    settings = json.loads(json.dumps({
        "data": [str(path.resolve()) for path in setup.data],
        "test": [str(path.resolve()) for path, _ in setup.images],
        **({"init": {"weights": setup.start.weights, "sha256": setup.start.sha256}} if setup.start else {}),
        **({} if setup.trains else {"trained": False}),
        **{variant.name: preset_to_dict(variant.preset) for variant in experiment.variants}}))
    path = setup.out / SETTINGS
    if not path.is_file():
        write_atomically(path, (json.dumps(settings, indent=2) + "\n").encode())
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DanFastError(f"{path}: cannot be read as JSON: {error}; take another --out") from None
    if difference := next(_differences(before, settings), None):
        raise DanFastError(f"{setup.out} holds results of other settings ({difference}): take another --out, "
                           "or the same settings again")


def _differences(before: object, now: object, name: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}".strip("."))
    elif before != now:
        yield f"{name} was {before} and is {now}"


def read_results(path: Path) -> list[Result]:
    """The results in a CSV file that ``perform`` wrote; none if there is no file.

    Raises:
        DanFastError: it holds something else.
    """
    if not path.is_file():
        return []
    kinds: dict[str, Callable[[str], Any]] = {
        "variant": str, "trial": str, "seed": int, "parameters": int, "multiply_adds": int, "anew": int}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines: list[dict[str, Any]] = [
                {name: kinds.get(name, float)(text) if text else None for name, text in line.items()}
                for line in csv.DictReader(file)]
        return [Result(**line) for line in lines]
    except (TypeError, ValueError, UnicodeDecodeError) as error:
        raise DanFastError(f"{path}: cannot be read as results of an experiment: {error}; take another --out") from None
