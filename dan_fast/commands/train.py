"""``dan-fast train`` trains a network; also ``python -m dan_fast.train`` and ``torchrun -m dan_fast.train``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from .. import checkpoint
from ..command_line.arguments import HelpWithDefaultsAndEpilog, add_device_argument
from ..command_line.training_settings import add_training_settings, given_settings
from ..config import GRADIENTS, DANConfig, field_help
from ..degradation.pipeline import Degradation
from ..errors import DanFastError
from ..files import SAMPLES, make_folder
from ..model import DAN
from ..runtime.devices import pick_device
from ..training.checkpoints import Checkpoints
from ..training.config_file import read_config
from ..training.loop import train
from ..training.parts import INDEX, MIB, join_parts, part_bytes
from ..training.presets import PRESETS, Preset, get_preset
from ..training.processes import Processes, joined_processes, local_device
from ..training.resuming import change_settings
from ..training.run import Run, RunOptions
from ..training.time_limit import TimeLimit
from ..training.validation import FolderValidation

DEFAULT_PRESET = "v2-0.3M-x4"
WARMUP_SHARE = 0.03  # of the steps, for training by the clock with a preset that has no warm-up
log = logging.getLogger("dan_fast.train")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = HelpWithDefaultsAndEpilog
    parser.epilog = _config_help()
    parser.add_argument("--data", type=Path, nargs="+", metavar="DIR", default=[SAMPLES],
                        help="folders of sharp images, searched recursively, or files that dan-fast pack wrote; packs "
                        "of JPEGs are decoded completely at the start (default: the photos that ship)")
    parser.add_argument("--preset", help=f"network and settings (default: {DEFAULT_PRESET}); "
                        f"one of {', '.join(PRESETS)}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="take network, settings and seed from a "
                        "config.json, which every run saves; instead of --preset")
    parser.add_argument("--out", type=Path, metavar="RUN", help="the run's folder (default: runs/PRESET)")
    parser.add_argument("--resume", nargs="?", const="yes", choices=("yes", "auto"),
                        help="go on with the run in --out and its settings, of which only --steps, --minutes and, by "
                        "the clock, --schedule may change; auto: start a run if there is none")
    parser.add_argument("--init", metavar="WEIGHTS", help="start from these weights, a file or the name of weights "
                        "that ship, to fine-tune them or for another scale; tensors that do not fit start at random "
                        "(default: all do)")
    parser.add_argument("--gradient", choices=GRADIENTS, help="iterations that learn (default: the preset's, last)")
    parser.add_argument("--seed", type=int, help="seed of weights, patches and degradations (default: 0)")
    parser.add_argument("--val", type=Path, metavar="DIR", default=SAMPLES,
                        help="sharp images to validate on (default: the photos that ship)")
    parser.add_argument("--validate-every", type=int, default=2000, metavar="STEPS",
                        help="steps between validations (default: %(default)s)")
    parser.add_argument("--save-every", type=int, default=1000, metavar="STEPS",
                        help="steps between checkpoints (default: %(default)s)")
    parser.add_argument("--parts", type=Path, metavar="DIR", help="also write each checkpoint to this folder, as small "
                        "files that are easy to move and an index of them; --resume goes on from them if they are "
                        "newer than the checkpoints in --out, and dan-fast parts join makes a run's folder of them "
                        "(default: none)")
    parser.add_argument("--part-mib", type=float, default=MIB, metavar="MIB",
                        help="largest size of a file in --parts, MiB (default: %(default)g)")
    parser.add_argument("--log-every", type=int, default=50, metavar="STEPS",
                        help="steps between lines of metrics.csv and TensorBoard's scalars (default: %(default)s)")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto",
                        help="floating-point type of the network's arithmetic; auto, the default: the faster one for "
                        "this network and device")
    parser.add_argument("--workers", type=int, default=None,
                        help="processes that read images (default: 4 beside a GPU, else 0: the training process)")
    parser.add_argument("--profile", action="store_true",
                        help="write a profiler's trace of the run's steps 8 to 10, trace.json in the run's folder")
    add_device_argument(parser)
    add_training_settings(parser)


def _config_help() -> str:
    lines = ["The other fields of a config.json, for --config:"]
    for section, kind in (("config", DANConfig), ("degradation", Degradation)):
        lines += [f"  {section}.{name}: {text}" for name, text in field_help(kind).items()]
    return "\n".join(lines)


def run(args: argparse.Namespace) -> int:
    options = _options(args)
    with joined_processes(options.device) as processes:
        logging.basicConfig(level=logging.INFO if processes.main else logging.WARNING, format="%(message)s", force=True)
        current = _start_or_resume(args, options, processes)
        preset = current.preset
        validation = FolderValidation(args.val, preset.config.scale, preset.degradation.irregular)
        make_folder(options.out)
        if options.parts:
            make_folder(options.parts)
        processes.wait_for_all()  # all processes look for a run to resume before one of them saves anything
        minutes = preset.training.minutes
        limit = TimeLimit(minutes, args.started) if minutes else None
        with logging_redirect_tqdm():
            finished = train(current, args.data, validation, limit)
    return 0 if finished else 130


def _options(args: argparse.Namespace) -> RunOptions:
    for name in ("validate_every", "save_every", "log_every"):
        if getattr(args, name) < 1:
            raise DanFastError(f"--{name.replace('_', '-')} {getattr(args, name)}: expected at least 1")
    device = local_device(pick_device(args.device))
    workers = (4 if device.type == "cuda" else 0) if args.workers is None else args.workers
    if workers < 0:
        raise DanFastError(f"--workers {workers}: expected 0 or more")
    if args.preset and args.config:
        raise DanFastError("--preset and --config contradict each other: the file holds the preset; leave one out")
    if args.resume == "yes" and args.init:
        raise DanFastError("--resume and --init contradict each other: a run goes on with its own weights")
    if args.resume == "yes" and args.out is None:
        raise DanFastError("--resume needs --out, the folder of the run to go on with")
    out = args.out or Path("runs") / (args.config.stem if args.config else args.preset or DEFAULT_PRESET)
    bf16 = None if args.precision == "auto" else args.precision == "bf16"
    return RunOptions(out, device, bf16, workers, log_every=args.log_every, save_every=args.save_every,
                      validate_every=args.validate_every, profile=args.profile, parts=args.parts,
                      part_bytes=part_bytes(args.part_mib, "--part-mib"))


def _start_or_resume(args: argparse.Namespace, options: RunOptions, processes: Processes) -> Run:
    if args.resume:
        if processes.main and (joined := join_parts(options.out, options.out)):
            log.info("joined the parts in %s: %s", options.out, joined)
        processes.wait_for_all()
    exists = bool(Checkpoints(options.out / "checkpoints").newest_first()) or (options.out / INDEX).exists()
    if args.resume == "yes" or (args.resume == "auto" and exists):
        return _resume(args, options, processes)
    if exists:
        raise DanFastError(f"{options.out} already holds a run: --resume goes on with it, another --out starts anew")
    preset, seed = _asked_for(args) or (get_preset(DEFAULT_PRESET), 0)
    new = Run(_changed(preset, args), seed if args.seed is None else args.seed, options, processes)
    anew = new.start_from(checkpoint.load(args.init, device=options.device)) if args.init else list(
        new.model.state_dict())
    if args.init:
        words = _shortened(anew, new.model)
        log.info("starts from %s%s", args.init, f"; anew: {', '.join(words)}" if words else "")
    random = [name for name in anew if not name.startswith("Refiner.")]
    if new.preset.training.learns == "refiner" and random:
        raise DanFastError(f"learns='refiner' freezes the other modules, of which {len(random)} tensors are random, "
                           f"such as {random[0]}: expected --init with weights of the same scale and shape")
    return new


def _shortened(names: Sequence[str], model: DAN) -> list[str]:
    """``names`` of tensors of ``model``, with one word for a module whose tensors are all among them."""
    whole = [module for module, child in model.named_children()
             if all(f"{module}.{name}" in names for name in child.state_dict())]
    return [*(f"all of {module}" for module in whole), *(name for name in names if name.split(".")[0] not in whole)]


def _asked_for(args: argparse.Namespace) -> tuple[Preset, int] | None:
    """The preset and seed of ``--config`` or ``--preset``, or None without either."""
    if args.config:
        return read_config(args.config)
    return (get_preset(args.preset), 0) if args.preset else None


def _changed(preset: Preset, args: argparse.Namespace) -> Preset:
    """``preset`` with the settings that the command line changes."""
    training = given_settings(args)
    changed = replace(preset.training, **training)
    if changed.minutes and not changed.warmup and "warmup" not in training:
        changed = replace(changed, warmup=round(WARMUP_SHARE * changed.steps))
    config = preset.config if args.gradient is None else replace(preset.config, gradient=args.gradient)
    return replace(preset, config=config, training=changed)


def _resume(args: argparse.Namespace, options: RunOptions, processes: Processes) -> Run:
    """The saved run, with the changes that the command line asks for."""
    current = Run.resume(options, processes)
    asked = _asked_for(args)
    wanted = _changed(asked[0] if asked else current.preset, args)
    seed = args.seed if args.seed is not None else asked[1] if asked and args.config else current.seed
    change_settings(current, wanted, seed, [name for name in vars(wanted.training) if hasattr(args, name)])
    return current
