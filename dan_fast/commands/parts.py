"""``dan-fast parts`` splits the state of a training run into small files, and joins them."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from ..errors import DanFastError
from ..training.checkpoints import Checkpoints
from ..training.parts import INDEX, MIB, join_parts, part_bytes, write_parts
from ..training.run import WEIGHTS, Run, RunOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("split", "join"), help="split: write the last checkpoint of a run as "
                        "small files and an index of them, as train --parts does; join: make a run's folder of such "
                        "files, with its checkpoint, config.json and weights.safetensors")
    parser.add_argument("folder", type=Path, metavar="FROM", help="split: the run's folder; join: the folder of the "
                        "parts")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="TO", help="split: the folder for the parts, "
                        "which replace those of another checkpoint there; join: the run's folder")
    parser.add_argument("--mib", type=float, default=MIB,
                        help="split: largest size of a part, MiB (default: %(default)g)")


def run(args: argparse.Namespace) -> int:
    most = part_bytes(args.mib, "--mib")
    if args.action == "split":
        newest = Checkpoints(args.folder / "checkpoints").newest_first()
        if not newest:
            raise DanFastError(f"{args.folder}: holds no run to split")
        written = write_parts(newest[0], args.out, most)
        print(f"{newest[0].name} in {len(written) - 1} parts: {args.out}")
        return 0
    if not (args.folder / INDEX).exists():
        raise DanFastError(f"{args.folder}: holds no {INDEX}, the index of a run's parts")
    if join_parts(args.folder, args.out) is None:
        raise DanFastError(f"{args.out} already holds a run that is as far as these parts: join them in another --out")
    joined = Run.resume(RunOptions(args.out, torch.device("cpu")))
    joined.write_weights()
    print(f"the run as of step {joined.step}: {args.out}; its weights: {args.out / WEIGHTS}")
    return 0
