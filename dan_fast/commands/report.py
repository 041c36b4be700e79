"""``dan-fast report`` writes the page of results."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..checkpoint import load
from ..files import write_atomically
from ..inference import Upscaler
from ..report.plots import draw
from ..report.sheets import draw_kernels, draw_limits
from ..report.tables import results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="NAME.csv: the summary.csv that dan-fast evaluate "
                        "NAME wrote with gaussian8; irregular/NAME.csv, unseen/NAME.csv: with other kernels; "
                        "iterations/N/NAME.csv: with --iterations N; peers.md: the page of benchmarks/peers. DIR.md is "
                        "written, and pictures to DIR")
    parser.add_argument("--weights", default="default", help="name of the weights that the pictures are made with")


def run(args: argparse.Namespace) -> int:
    folder = args.folder.resolve()
    page = folder.with_suffix(".md")
    text = results(folder)
    draw(folder)
    upscaler = Upscaler(load(args.weights))
    draw_kernels(upscaler, folder / "kernels.png")
    for damage, before, after, error in draw_limits(upscaler, folder / "limits.jpg"):
        print(f"{damage:>9}: bicubic {before:.2f} dB, DAN {after:.2f} dB, kernel error {error:.2f}")
    write_atomically(page, text.encode())
    print(f"{page}, and its pictures in {folder}")
    return 0
