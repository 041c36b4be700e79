"""``dan-fast evaluate`` measures weights on degraded test images."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..blur_kernels.files import read_kernels
from ..blur_kernels.padding import padded
from ..command_line.arguments import whole_number
from ..command_line.messages import skip_into
from ..command_line.output import add_output_arguments, print_json, refuse_silence
from ..command_line.upscaler_options import add_engine_arguments, add_ensemble_argument, make_upscaler
from ..errors import DanFastError
from ..evaluation.degraded_set import Degraded, DegradedSet, fixed_kernels, image_sets, output_name
from ..evaluation.measure import Row, Upscaled, comparison, measure
from ..evaluation.summary import ALIGNED, ALL_KERNELS, MEASURES, Summary, summarize, write_rows, write_summary
from ..files import make_folder
from ..image_files import write_image

# How the table shows a column: its title and format.
SHOWN = {
    "bicubic_psnr_y": ("bic PSNR-Y", ".2f"), "psnr_y": ("DAN PSNR-Y", ".2f"),
    "bicubic_ssim_y": ("bic SSIM-Y", ".4f"), "ssim_y": ("DAN SSIM-Y", ".4f"),
    "bicubic_psnr_rgb": ("bic PSNR-RGB", ".2f"), "psnr_rgb": ("DAN PSNR-RGB", ".2f"),
    "bicubic_ssim_rgb": ("bic SSIM-RGB", ".4f"), "ssim_rgb": ("DAN SSIM-RGB", ".4f"),
    "kernel_error": ("kernel error", ".3f"), "kernel_psnr": ("kernel PSNR", ".2f"),
    "shift_down": ("down", ".1f"), "shift_right": ("right", ".1f"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("weights", help="a weights file, or the name of weights that ship")
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="DIR",
                        help="folders of sharp images, one set each; a folder that holds only folders: one set per "
                        "folder")
    parser.add_argument("--protocol", choices=("gaussian8", "irregular", "file"), default="gaussian8",
                        help="gaussian8: 8 isotropic kernels for every image; irregular: one random kernel per image; "
                        "file: those of --kernels for every image, measured with and without their shift")
    parser.add_argument("--kernels", type=Path, nargs="+", metavar="FILE", help="for --protocol file: .npy, (k, k) or "
                        "(n, k, k), or .mat with a variable called kernels")
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
    if args.pictures and args.out is None:
        raise DanFastError("--pictures needs --out, the folder to write them to")
    if (args.kernels is not None) != (args.protocol == "file"):
        raise DanFastError("--protocol file and --kernels FILE need each other")
    protocol = fixed_kernels(_same_size(args.kernels)) if args.kernels else args.protocol
    upscaler = make_upscaler(args)
    sets = [DegradedSet.from_folder(folder, upscaler.scale, protocol, args.limit, name)
            for name, folder in _named(image_sets(args.data))]
    if args.out is not None:
        # Fails now rather than after an hour of measuring.
        make_folder(args.out)
    rows: list[Row] = []
    any_skipped = False
    for degraded in sets:
        skipped: list[str] = []
        write = _PictureWriter(degraded, args.out / "pictures") if args.pictures else None
        measured = measure(degraded, upscaler, progress=not (args.json or args.quiet), on_skip=skip_into(skipped),
                           on_measured=write)
        if args.json:
            _print_for_programs(degraded.name, measured, skipped)
        elif not args.quiet:
            print(_table(measured) if measured else f"{degraded.name}: no image could be measured", "\n")
        rows += measured
        any_skipped |= bool(skipped)
    if args.out is not None:
        write_rows(args.out / "evaluation.csv", rows)
        write_summary(args.out / "summary.csv", summarize(rows))
    return 1 if any_skipped else 0


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


def _table(rows: Sequence[Row]) -> str:
    """The means of one set's ``rows``, and again without the kernels' shift if they have one."""
    summaries = summarize(rows)
    images = len({row.image for row in rows})
    milliseconds = summaries[-1].figures["median_ms"]
    lines = [f"{rows[0].set}: {images} image{'s' * (images > 1)}, {milliseconds:.1f} ms each (median)",
             *_lines(summaries, MEASURES)]
    if any(row.shift_down or row.shift_right for row in rows):
        lines += ["without the shift of the kernels (pixels down, right): images moved back by it, kernels centred",
                  *_lines(summaries, ALIGNED)]
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


def _lines(summaries: Sequence[Summary], columns: Sequence[str]) -> Iterator[str]:
    shown = {column: SHOWN[column.removeprefix("aligned_")] for column in columns}
    width = {column: max(5, len(title)) for column, (title, _) in shown.items()}
    yield "  ".join(["sigma", *(f"{title:>{width[column]}}" for column, (title, _) in shown.items())])
    for summary in summaries:
        figures = [f"{summary.figures[column]:>{width[column]}{form}}" for column, (_, form) in shown.items()]
        yield "  ".join([f"{summary.sigma:>5}", *figures])


class _PictureWriter:
    """Writes for every case a picture of bicubic, DAN, the sharp image and both kernels side by side."""

    def __init__(self, degraded: DegradedSet, folder: Path) -> None:
        degraded.check_output_names()
        self.scale = degraded.scale
        self.kernels = degraded.kernels_per_image
        self.folder = folder / degraded.name.strip("/").replace("/", "_")

    def __call__(self, case: Degraded, result: Upscaled) -> None:
        picture = comparison(case, result, self.scale)
        write_image(self.folder / f"{output_name(case, self.kernels)}.png", picture)
