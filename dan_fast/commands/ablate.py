"""``dan-fast ablate`` trains what an experiment compares, and says what came out."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from ..command_line.arguments import add_device_argument, whole_number
from ..command_line.training_settings import add_training_settings, given_settings
from ..errors import DanFastError
from ..evaluation.degraded_set import images_below
from ..evaluation.plots import MISSING, can_plot, plot
from ..experiments import EXPERIMENTS
from ..experiments.experiment import TINY
from ..experiments.runner import RESULTS, Result, Setup, perform
from ..experiments.start import read_start
from ..experiments.verdict import spread, table
from ..files import SAMPLES, write_atomically
from ..image_files import find_images
from ..runtime.devices import pick_device
from ..training.precision import faster_precision
from ..training.presets import PRESETS, Preset, get_preset

# How many of the photos that ship, the last ones, are for the test.
TEST_SAMPLES = 2
# What a training from given weights needs to be otherwise than one from random weights.
SETTINGS = ("learning_rate", "batch", "patch", "short_until", "warmup")
SEEDS = 3


def _suits(preset: Preset) -> bool:
    return preset.config.version == "v2" and preset.config.refiner is None


_PRESETS = [name for name, preset in PRESETS.items() if _suits(preset)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("question", choices=EXPERIMENTS, help="the experiment, one of the papers' questions")
    parser.add_argument("--preset", default="tiny", help="network and settings: tiny, which takes about a quarter of a "
                        f"minute per training on a CPU, or one of {', '.join(_PRESETS)}")
    parser.add_argument("--init", metavar="WEIGHTS", help="start every training from these weights, a file or the name "
                        "of weights that ship: from what all networks of the experiment have in common, without what "
                        "the question is about (default: all weights are random)")
    parser.add_argument("--steps", type=whole_number(0), help="steps of every training; 0: test the weights of --init "
                        "as they are (default: the preset's)")
    parser.add_argument("--seeds", type=whole_number(3), metavar="N", help="trainings of every network "
                        f"(default: {SEEDS})")
    parser.add_argument("--data", type=Path, nargs="+", metavar="DIR",
                        help="folders of sharp images to train on (default: three of the photos that ship)")
    parser.add_argument("--val", type=Path, nargs="+", metavar="DIR",
                        help="folders of sharp images to test on (default: the other two photos that ship)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="folder for results.csv, table.md, plot.png and the trainings; a second call goes on with "
                        "what is missing (default: runs/ablate-QUESTION)")
    add_device_argument(parser)
    add_training_settings(parser, SETTINGS)


def run(args: argparse.Namespace) -> int:
    preset = _preset(args)
    trains = args.steps != 0
    if not trains and args.init is None:
        raise DanFastError("--steps 0: nothing is trained, so that --init must give the weights to test")
    if not trains and args.seeds is not None:
        raise DanFastError(f"--seeds {args.seeds} and --steps 0 contradict each other: weights that are given have no "
                           "seed; leave one out")
    start = read_start(args.init) if args.init is not None else None
    photos = find_images([SAMPLES])
    out = args.out or Path("runs") / f"ablate-{args.question}"
    device = pick_device(args.device)
    setup = Setup(out, args.data or photos[:-TEST_SAMPLES],
                  images_below(args.val or photos[-TEST_SAMPLES:]), device,
                  faster_precision(preset.config, device).bf16, start, trains)
    experiment = EXPERIMENTS[args.question](preset)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
    with logging_redirect_tqdm():
        results = perform(experiment, (args.seeds or SEEDS) if trains else 1, setup)
    text = table(experiment, results)
    write_atomically(out / "table.md", text.encode())
    print(text)
    if can_plot():
        _draw(out / "plot.png", experiment.question, results)
    else:
        print(f"no plot.png: {MISSING}")
    print(f"{out / RESULTS}: the results of every seed")
    return 0


def _preset(args: argparse.Namespace) -> Preset:
    preset = TINY if args.preset == "tiny" else get_preset(args.preset)
    if not _suits(preset):
        raise DanFastError(f"--preset {args.preset}: the experiments change v2 without a Refiner; expected tiny or one "
                           f"of {', '.join(_PRESETS)}")
    training = given_settings(args, SETTINGS) | ({"steps": args.steps} if args.steps else {})
    return replace(preset, training=replace(preset.training, **training))


def _draw(path: Path, question: str, results: Sequence[Result]) -> None:
    """Plot the PSNR of every trial: one point per seed, and mean and spread."""
    names = list(dict.fromkeys(result.trial for result in results))
    with plot(path, height=1.5 + 0.4 * len(names)) as axes:
        for place, name in enumerate(names):
            values = [result.psnr_y for result in results if result.trial == name]
            mean, deviation = spread(values)
            axes.plot(values, [place] * len(values), "o", color="silver")
            axes.errorbar(mean, place, xerr=deviation if len(values) > 1 else None, fmt="o", color="C0", capsize=4)
        axes.set(yticks=range(len(names)), yticklabels=names, xlabel="PSNR on Y, dB", title=question)
        axes.title.set_fontsize("medium")
        axes.invert_yaxis()
