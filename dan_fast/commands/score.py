"""``dan-fast score`` compares two folders of images: results and the sharp images that they should be."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from ..command_line.arguments import whole_number
from ..command_line.messages import skip_into
from ..command_line.output import add_output_arguments, print_json, refuse_silence
from ..errors import DanFastError, printable
from ..evaluation.scoring import CROP, SHOWN, Score, WorstSheet, mean_score, score_folders, write_scores
from ..files import make_folder
from ..image_files import check_writable, write_image
from ..image_files.finding import SUFFIXES

TITLES = {"psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y", "psnr_rgb": "PSNR-RGB", "ssim_rgb": "SSIM-RGB"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, metavar="RESULTS",
                        help="folder of results, called like the sharp images, or with another ending, such as _x4")
    parser.add_argument("--against", type=Path, required=True, metavar="HR", help="folder of the sharp images")
    parser.add_argument("--crop", type=whole_number(0), default=CROP, metavar="N",
                        help="pixels left out on every side; papers leave out as many as the scale, and 4 is the "
                        "largest one")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table to this file, its last line the "
                        "means")
    parser.add_argument("--worst", type=Path, metavar="FILE",
                        help=f"also write a picture of the {SHOWN} worst results by PSNR on Y, each beside its sharp "
                        "image, for example worst.png")
    add_output_arguments(parser)


def run(args: argparse.Namespace) -> int:
    refuse_silence(args, "--csv FILE", args.csv or args.worst)
    sheet = WorstSheet() if args.worst else None
    if args.worst:
        check_writable(args.worst, 1, 1)
    _refuse_overwriting(args)
    for file in filter(None, (args.csv, args.worst)):
        make_folder(file.parent)
    skipped: list[str] = []
    scores = score_folders(args.results, args.against, crop=args.crop, progress=not (args.json or args.quiet),
                           on_skip=skip_into(skipped), on_scored=sheet)
    if args.csv:
        write_scores(args.csv, scores)
    if sheet:
        write_image(args.worst, sheet.picture())
    mean = mean_score(scores)
    if args.json:
        print_json("score", results=str(args.results), against=str(args.against), crop_pixels=args.crop,
                   images=[{"image": score.image, **_figures(score)} for score in scores],
                   **{f"mean_{name}": figure for name, figure in _figures(mean).items()}, skipped=skipped)
    elif not args.quiet:
        print("\n".join(_lines([*scores, mean])))
    return 1 if skipped else 0


def _refuse_overwriting(args: argparse.Namespace) -> None:
    """Raise ``DanFastError`` if a file would be written that is, or would be, one of the images."""
    for option, file in (("--csv", args.csv), ("--worst", args.worst)):
        for folder in (args.results, args.against):
            if file and file.suffix.lower() in SUFFIXES and file.resolve().is_relative_to(folder.resolve()):
                raise DanFastError(f"{option} {file} lies in {folder}, whose images are compared: give another place")


def _figures(score: Score) -> dict[str, float]:
    """The measures by their names with units."""
    return {f"{name}_db" if "psnr" in name else name: value for name, value in asdict(score).items() if name in TITLES}


def _lines(scores: Sequence[Score]) -> Iterator[str]:
    names = [printable(score.image) for score in scores]
    longest = max(map(len, ("image", *names)))
    yield "  ".join(["image".ljust(longest), *TITLES.values()])
    for name, score in zip(names, scores, strict=True):
        yield "  ".join([name.ljust(longest), *(f"{getattr(score, column):{len(title)}.{2 if 'psnr' in column else 4}f}"
                                                for column, title in TITLES.items())])
