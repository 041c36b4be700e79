"""``dan-fast train``, also ``python -m dan_fast.train``."""

from __future__ import annotations

import argparse
import logging
from dataclasses import asdict, replace
from pathlib import Path

import torch
from tqdm.contrib.logging import logging_redirect_tqdm

from ..config import GRADIENTS
from ..devices import add_device_argument, pick_device
from ..errors import DanFastError
from ..files import SAMPLES, make_folder
from ..training.loop import STATE, Run, RunOptions, read_state, saved_preset, train
from ..training.presets import PRESETS, Preset, get_preset
from ..training.validation import FolderValidation

DEFAULT_PRESET = "v2-0.3M-x4"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, nargs="+", metavar="DIR", default=[SAMPLES],
                        help="folders of sharp images, searched recursively")
    parser.add_argument("--preset", default=None, help=f"network and settings (default: {DEFAULT_PRESET}); "
                        f"one of {', '.join(PRESETS)}")
    parser.add_argument("--out", type=Path, metavar="RUN", help="the run's folder (default: runs/PRESET)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out, with its own settings")
    parser.add_argument("--steps", type=int, help="optimiser steps in all (default: the preset's)")
    parser.add_argument("--batch", type=int, help="patches a step (default: the preset's)")
    parser.add_argument("--patch", type=int, help="side of a low-resolution patch, pixels (default: the preset's)")
    parser.add_argument("--gradient", choices=GRADIENTS, help="which iterations learn (default: the preset's, last)")
    parser.add_argument("--seed", type=int, help="of weights, patches and degradations (default: 0)")
    parser.add_argument("--val", type=Path, metavar="DIR", default=SAMPLES, help="sharp images to validate on")
    parser.add_argument("--validate-every", type=int, default=2000, metavar="STEPS", help="steps between validations")
    parser.add_argument("--save-every", type=int, default=1000, metavar="STEPS", help="steps between checkpoints")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto",
                        help="of the network's arithmetic; auto: bf16 where the device computes in it")
    parser.add_argument("--workers", type=int, default=None,
                        help="processes that read images (default: 4 beside a GPU, else 0: the training process)")
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    options = _options(args)
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    if args.resume:
        current = _resume(args, options)
    else:
        if (options.out / STATE).exists():
            raise DanFastError(f"{options.out} already holds a run: "
                               "--resume goes on with it, another --out starts anew")
        current = Run(_changed(get_preset(args.preset or DEFAULT_PRESET), args), args.seed or 0, options)
    preset = current.preset
    validation = FolderValidation(args.val, preset.config.scale, preset.degradation.irregular)
    make_folder(options.out)
    with logging_redirect_tqdm():
        finished = train(current, args.data, validation)
    return 0 if finished else 130


def _options(args: argparse.Namespace) -> RunOptions:
    for name in ("validate_every", "save_every"):
        if getattr(args, name) < 1:
            raise DanFastError(f"--{name.replace('_', '-')} {getattr(args, name)}: expected at least 1")
    device = pick_device(args.device)
    workers = (4 if device.type == "cuda" else 0) if args.workers is None else args.workers
    if workers < 0:
        raise DanFastError(f"--workers {workers}: expected 0 or more")
    if args.resume and args.out is None:
        raise DanFastError("--resume needs --out, the folder of the run to go on with")
    out = args.out or Path("runs") / (args.preset or DEFAULT_PRESET)
    bf16 = args.precision == "bf16" or (args.precision == "auto" and computes_in_bf16(device))
    return RunOptions(out, device, bf16, workers, save_every=args.save_every, validate_every=args.validate_every)


def computes_in_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32: GPUs since Ampere, CPUs with instructions for it.

    A CPU without them emulates bfloat16, ten times slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _changed(preset: Preset, args: argparse.Namespace) -> Preset:
    """``preset`` with what the command line says otherwise."""
    training = {name: getattr(args, name) for name in ("steps", "batch", "patch") if getattr(args, name) is not None}
    config = preset.config if args.gradient is None else replace(preset.config, gradient=args.gradient)
    return replace(preset, config=config, training=replace(preset.training, **training))


def _resume(args: argparse.Namespace, options: RunOptions) -> Run:
    """The saved run; of its settings only the number of steps may change."""
    state = read_state(options.out)
    saved = saved_preset(state)
    wanted = _changed(get_preset(args.preset) if args.preset else saved, args)
    if args.preset and args.steps is None:
        wanted = replace(wanted, training=replace(wanted.training, steps=saved.training.steps))
    if args.seed is not None and args.seed != state["seed"]:
        raise DanFastError(f"--seed {args.seed}: the run in {options.out} has seed {state['seed']}; leave it out")
    current = Run.resume(options)
    for part in ("config", "degradation", "training"):
        before, after = asdict(getattr(saved, part)), asdict(getattr(wanted, part))
        for name in before:
            if name != "steps" and before[name] != after[name]:
                raise DanFastError(f"{name}={after[name]}: the run in {options.out} has {before[name]}; "
                                   "leave it out, or start anew in another --out")
    current.preset = wanted
    return current
