"""``dan-fast evaluate`` measures weights, or another program, on degraded test images."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..blur_kernels.files import read_kernels
from ..blur_kernels.padding import padded
from ..command_line.arguments import number, whole_number
from ..command_line.messages import skip_into
from ..command_line.output import add_output_arguments, print_json, refuse_silence
from ..command_line.upscaler_options import (
    add_engine_arguments,
    add_ensemble_argument,
    make_upscaler,
    refuse_engine_options,
)
from ..config import SCALES
from ..errors import DanFastError, printable
from ..evaluation.command_upscaler import TIMEOUT, CommandUpscaler
from ..evaluation.degraded_set import Degraded, DegradedSet, fixed_kernels, image_sets, output_name
from ..evaluation.measure import Row, Upscaled, comparison, measure
from ..evaluation.paired_set import PairedSet
from ..evaluation.summary import ALIGNED, ALL_KERNELS, MEASURES, Summary, summarize, write_rows, write_summary
from ..files import make_folder
from ..image_files import write_image
from ..inference import Upscaler

# How the table shows a column: its title, in which UPSCALER stands for the upscaler's name, and format.
SHOWN = {
    "bicubic_psnr_y": ("bic PSNR-Y", ".2f"), "psnr_y": ("UPSCALER PSNR-Y", ".2f"),
    "bicubic_ssim_y": ("bic SSIM-Y", ".4f"), "ssim_y": ("UPSCALER SSIM-Y", ".4f"),
    "bicubic_psnr_rgb": ("bic PSNR-RGB", ".2f"), "psnr_rgb": ("UPSCALER PSNR-RGB", ".2f"),
    "bicubic_ssim_rgb": ("bic SSIM-RGB", ".4f"), "ssim_rgb": ("UPSCALER SSIM-RGB", ".4f"),
    "kernel_error": ("kernel error", ".3f"), "kernel_psnr": ("kernel PSNR", ".2f"),
    "shift_down": ("down", ".1f"), "shift_right": ("right", ".1f"),
}
COMMAND = "command:"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", nargs="?", help="a weights file, or the name of weights that ship")
    parser.add_argument("--data", type=Path, nargs="+", metavar="DIR",
                        help="folders of sharp images, one set each; a folder that holds only folders: one set per "
                        "folder")
    parser.add_argument("--protocol", choices=("gaussian8", "irregular", "file"),
                        help="gaussian8: 8 isotropic kernels for every image; irregular: one random kernel per image; "
                        "file: those of --kernels for every image, measured with and without their shift "
                        "(default: gaussian8)")
    parser.add_argument("--kernels", type=Path, nargs="+", metavar="FILE", help="for --protocol file: .npy, (k, k) or "
                        "(n, k, k), or .mat with a variable called kernels")
    pairs = parser.add_argument_group("pairs, instead of --data")
    pairs.add_argument("--lr", type=Path, metavar="DIR",
                       help="low-resolution images that somebody else made; they are called like the sharp ones, or "
                       "with another ending, such as x4, _LR4 or _lr_x4")
    pairs.add_argument("--hr", type=Path, metavar="DIR", help="the sharp images of --lr; may be the same folder")
    pairs.add_argument("--true-kernels", type=Path, metavar="DIR",
                       help="the kernels of the pairs, .npy or .mat, called like the images (default: not known)")
    other = parser.add_argument_group("another program, instead of weights")
    other.add_argument("--upscaler", metavar="command:'TOOL -i {in} -o {out}'",
                       help="measure this program, which reads the PNG file {in} and writes the PNG file {out}; "
                       "{scale} is the scale; no shell is used")
    other.add_argument("--scale", type=int, choices=SCALES, help="the scale of --upscaler")
    other.add_argument("--timeout", type=number(0.001), metavar="SECONDS",
                       help=f"the longest time that --upscaler may take for an image (default: {TIMEOUT:g})")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for evaluation.csv and summary.csv (default: "
                        "only print the table)")
    parser.add_argument("--pictures", action="store_true", help="also write comparison pictures to --out")
    parser.add_argument("--limit", type=whole_number(1), metavar="N",
                        help="only the first N images of every set (default: all)")
    add_engine_arguments(parser)
    add_ensemble_argument(parser)
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    refuse_silence(args, "--out DIR", args.out)
    _refuse_contradictions(args)
    upscaler, name = _upscaler(args)
    sets = _sets(args, upscaler.scale)
    if args.out is not None:
        # Fails now rather than after an hour of measuring.
        make_folder(args.out)
    rows: list[Row] = []
    any_skipped = False
    for cases in sets:
        skipped: list[str] = []
        write = _PictureWriter(cases, args.out / "pictures", name) if args.pictures else None
        measured = measure(cases, upscaler, progress=not (args.json or args.quiet), on_skip=skip_into(skipped),
                           on_measured=write)
        if args.json:
            _print_for_programs(cases.name, measured, skipped)
        elif not args.quiet:
            print(_table(cases, measured, name) if measured else f"{cases.name}: no image could be measured", "\n")
        rows += measured
        any_skipped |= bool(skipped)
    if args.out is not None:
        write_rows(args.out / "evaluation.csv", rows)
        write_summary(args.out / "summary.csv", summarize(rows))
    return 1 if any_skipped else 0


def _refuse_contradictions(args: argparse.Namespace) -> None:
    """Raise ``DanFastError`` for options that contradict each other, or lack each other."""
    degraded = args.data or args.protocol or args.kernels
    wrong = [
        (args.pictures and args.out is None, "--pictures needs --out, the folder to write them to"),
        ((args.lr is None) != (args.hr is None), "--lr DIR and --hr DIR need each other"),
        (args.lr and degraded, "--lr and --hr are pairs, which nothing degrades: leave out --data, --protocol and "
                               "--kernels"),
        (args.true_kernels and not args.lr, "--true-kernels are those of pairs: give --lr DIR and --hr DIR too; for "
                                            "--data there is --protocol file"),
        (not args.lr and not args.data, "there is nothing to measure with: give --data DIR, or --lr DIR and --hr DIR"),
        ((args.kernels is not None) != (args.protocol == "file"), "--protocol file and --kernels FILE need each other"),
        (args.weights and args.upscaler, "weights and --upscaler are two upscalers: leave one out"),
        (not args.weights and not args.upscaler, "there is nothing to measure: name weights, for example default, or "
                                                 "give --upscaler"),
        (args.upscaler and not args.scale, "--upscaler needs --scale, by which the program enlarges"),
        (args.scale and not args.upscaler, "--scale is for --upscaler: weights have their own"),
        (args.timeout is not None and not args.upscaler, "--timeout is for --upscaler: leave it out"),
        (args.upscaler and not args.upscaler.startswith(COMMAND),
         f"--upscaler {args.upscaler}: expected command:'TOOL -i {{in}} -o {{out}}'"),
    ]
    for contradicts, message in wrong:
        if contradicts:
            raise DanFastError(message)
    if args.upscaler:
        refuse_engine_options(args, "which --upscaler is not")


def _upscaler(args: argparse.Namespace) -> tuple[Upscaler | CommandUpscaler, str]:
    """What is measured, and its name in tables."""
    if args.upscaler:
        tool = CommandUpscaler(args.upscaler.removeprefix(COMMAND), args.scale, args.timeout or TIMEOUT)
        return tool, printable(tool.name)
    return make_upscaler(args), "DAN"


def _sets(args: argparse.Namespace, scale: int) -> Sequence[DegradedSet | PairedSet]:
    """The sets to measure on."""
    if args.lr:
        return [PairedSet.from_folders(args.lr, args.hr, scale, args.true_kernels, args.limit)]
    protocol = fixed_kernels(_same_size(args.kernels)) if args.kernels else args.protocol or "gaussian8"
    return [DegradedSet.from_folder(folder, scale, protocol, args.limit, name)
            for name, folder in _named(image_sets(args.data))]


def _same_size(paths: Sequence[Path]) -> np.ndarray:
    """The kernels of several files as one array, smaller ones padded with zeros."""
    of_files = [read_kernels(path) for path in paths]
    largest = max(kernels.shape[1] for kernels in of_files)
    return np.stack([padded(kernel, largest) for kernels in of_files for kernel in kernels])


def _named(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    """Pairs of name and folder: a set has its folder's name, or its path where two folders have the same name."""
    names = [folder.resolve().name for folder in folders]
    return [(name if names.count(name) == 1 else str(folder), folder)
            for name, folder in zip(names, folders, strict=True)]


def _table(cases: DegradedSet | PairedSet, rows: Sequence[Row], name: str) -> str:
    """The means of one set's ``rows``, and again without the kernels' shift if they have one."""
    summaries = summarize(rows)
    images = len({row.image for row in rows})
    milliseconds = summaries[-1].figures["median_ms"]
    lines = [f"{rows[0].set}: {images} image{'s' * (images > 1)}, {milliseconds:.1f} ms each (median)",
             *_lines(summaries, MEASURES, name)]
    if any(row.shift_down or row.shift_right for row in rows):
        if cases.registered:
            lines += ["without the shift of the kernels (pixels down, right): kernels centred, images as they are",
                      *_lines(summaries, ("shift_down", "shift_right", "aligned_kernel_error"), name)]
        else:
            lines += ["without the shift of the kernels (pixels down, right): images moved back by it, kernels centred",
                      *_lines(summaries, ALIGNED, name)]
    return "\n".join(lines)


def _print_for_programs(name: str, rows: Sequence[Row], skipped: Sequence[str]) -> None:
    """Print the set's summaries, or if it has none, that nothing was measured."""
    images = len({row.image for row in rows})
    for summary in summarize(rows) or [Summary(name, ALL_KERNELS, 0, {})]:
        kernel = summary.sigma
        figures = {column: summary.figures.get(column) for column in (*MEASURES, "median_ms", *ALIGNED)}
        print_json("evaluate", set=name, images=images, cases=summary.cases,
                   sigma_pixels=None if kernel == ALL_KERNELS or kernel.startswith("#") else float(kernel),
                   kernel_index=int(kernel[1:]) if kernel.startswith("#") else None,
                   **{_with_unit(column): figure for column, figure in figures.items()}, skipped=skipped)


def _with_unit(column: str) -> str:
    """The name of a column of summary.csv with its unit, if it has one."""
    return f"{column}_db" if "psnr" in column else f"{column}_pixels" if column.startswith("shift_") else column


def _lines(summaries: Sequence[Summary], columns: Sequence[str], name: str) -> Iterator[str]:
    """The lines of a table, without the columns of what is not known."""
    known = [column for column in columns if column in summaries[-1].figures]
    shown = {column: SHOWN[column.removeprefix("aligned_")] for column in known}
    titles = {column: title.replace("UPSCALER", name) for column, (title, _) in shown.items()}
    width = {column: max(5, len(title)) for column, title in titles.items()}
    yield "  ".join(["sigma", *(f"{title:>{width[column]}}" for column, title in titles.items())])
    for summary in summaries:
        figures = [f"{summary.figures[column]:>{width[column]}{form}}" for column, (_, form) in shown.items()]
        yield "  ".join([f"{summary.sigma:>5}", *figures])


class _PictureWriter:
    """Writes for every case a picture of bicubic, the result, the sharp image and the kernels side by side."""

    def __init__(self, cases: DegradedSet | PairedSet, folder: Path, name: str) -> None:
        if isinstance(cases, DegradedSet):
            cases.check_output_names()  # those of pairs differ
        self.scale, self.kernels, self.name = cases.scale, cases.kernels_per_image, name
        self.folder = folder / cases.name.strip("/").replace("/", "_")

    def __call__(self, case: Degraded, result: Upscaled) -> None:
        picture = comparison(case, result, self.scale, self.name)
        write_image(self.folder / f"{output_name(case, self.kernels)}.png", picture)
