"""``dan-fast upscale`` upscales photos of unknown blur."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..command_line.arguments import whole_number
from ..command_line.destination import STREAM, Destination, check_streams, destination
from ..command_line.messages import PhotoBar
from ..command_line.output import add_output_arguments
from ..command_line.photo_jobs import (
    Job,
    add_network_arguments,
    add_paths_argument,
    find_jobs,
    for_each,
    refuse_overwriting,
)
from ..command_line.scales import Upscalers
from ..command_line.sizes import add_size_arguments, wanted_size
from ..command_line.timing import Clock, timing_table
from ..command_line.upscaler_options import add_dial_arguments, add_ensemble_argument
from ..command_line.upscaling import FORMATS, Upscaling, same_format
from ..errors import DanFastError, printable
from ..files import make_folder
from ..image_files import ImageBytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths_argument(parser, stream=True)
    results = parser.add_argument_group("results")
    results.add_argument("-o", "--output", required=True, metavar="PATH",
                         help="folder for the results, NAME_x4.png and so on; or, for one photo, a file such as "
                         "sharp.png, or - for standard output; results of an earlier run are replaced, photos never")
    results.add_argument("--suffix", metavar="TEXT",
                         help="what to add to the names of results, may be empty (default: the scale or size, _x4)")
    results.add_argument("--format", choices=("same", *FORMATS), default="same",
                         help="file format; same: that of the output file or the photo, png where that cannot be "
                         "written")
    results.add_argument("--quality", type=whole_number(1, 100), default=95,
                         help="quality of jpg, webp and avif, 1 to 100")
    results.add_argument("--metadata", choices=("keep", "none"), default="keep",
                         help="keep EXIF, with the place where the photo was taken, XMP and resolution; or none of "
                         "them; the colour profile is always kept")
    results.add_argument("--skip-existing", action="store_true",
                         help="leave out photos whose result is there already, made from the same photo by the same "
                         "version with the same options; so a batch that was stopped goes on")
    results.add_argument("--save-kernel", action="store_true",
                         help="also write the estimated kernel, NAME_x4_kernel.png and .npy")
    results.add_argument("--compare", action="store_true",
                         help="also write NAME_x4_compare.png: bicubic, DAN and the kernel side by side")
    add_size_arguments(parser.add_argument_group("size"))
    look = parser.add_argument_group("look")
    add_dial_arguments(look)
    add_ensemble_argument(look)
    look.add_argument("--kernel", type=Path, metavar="FILE",
                      help="the blur kernel, if it is known: a .npy file of n x n numbers with the sum 1; nothing is "
                      "estimated; a kernel that is not centred is centred, and the results are moved back "
                      "(default: estimate it)")
    add_network_arguments(parser.add_argument_group("network and machine"))
    messages = parser.add_argument_group("messages")
    messages.add_argument("--timing", action="store_true", help="print at the end where the time went")
    add_output_arguments(messages)


def run(args: argparse.Namespace) -> int:
    place = destination(args.output)
    _refuse_contradictions(args, place)
    if check_streams(args.paths):
        jobs = [Job(ImageBytes(sys.stdin.buffer.read(), "standard input"), place.folder / "stdin")]
    else:
        jobs = find_jobs(args.paths, place.folder)
    place.check_number(len(jobs))
    command = Upscaling(args, place, Upscalers(args, any_scale=wanted_size(args) is not None))
    refuse_overwriting(jobs, (path for job in jobs for path in command.outputs(job)))
    if not place.stream:
        make_folder(place.folder)
    there = {job for job in jobs if command.is_done(job)} if args.skip_existing else set()
    left = [job for job in jobs if job not in there]
    for job in jobs:
        if job in there:
            command.report_skipped(job)
    clock = Clock()
    bar = PhotoBar(len(left), hidden=args.quiet or args.json)
    command.progress = bar.within
    code = for_each(left, command.read, command.upscale, command.write, clock=clock, bar=bar,
                    on_error=command.report_failure)
    out = sys.stderr if place.stream or args.json else sys.stdout
    if not (args.quiet or args.json):
        already = f", {len(there)} were there already" if there else ""
        print(f"{command.done} of {len(jobs)} photos upscaled into {printable(str(place))}{already}", file=out)
    if args.timing:
        print(timing_table(clock, command.upscalers.stats(), command.upscalers.on_gpu), file=out)
    return code


def _refuse_contradictions(args: argparse.Namespace, place: Destination) -> None:
    """Raise ``DanFastError`` for options that contradict each other."""
    contradictions = [
        (place.file and args.suffix is not None, "--suffix is for results in a folder, and -o names a file"),
        (place.file and args.format != "same" and FORMATS.get(args.format) != same_format(place.file.suffix),
         f"--format {args.format} and -o {place} name two formats: leave one out"),
        (place.stream and (args.save_kernel or args.compare),
         "--save-kernel and --compare need a folder or a file for -o, not standard output"),
        (place.stream and args.json, "--json prints to standard output, and so does -o -: choose one"),
        (args.skip_existing and (place.stream or STREAM in map(str, args.paths)),
         "--skip-existing needs files, not standard input or output"),
        (args.suffix is not None and Path(f"x{args.suffix}").name != f"x{args.suffix}",
         f"--suffix {args.suffix!r}: expected a part of a file name, without slashes"),
        (args.kernel and wanted_size(args) and args.weights == "default",
         "--kernel counts pixels of the result at one scale: with a size, name the --weights too"),
    ]
    for contradicts, message in contradictions:
        if contradicts:
            raise DanFastError(message)
