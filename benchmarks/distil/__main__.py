"""Teaches a Refiner for the small network with the results of SRMDNF, which is told the true kernel.

    python -m benchmarks.distil cases --photos DIR --pca srmd_pca_matlab.mat --out build/cases
    python -m benchmarks.distil train --cases build/cases --true-codes --minutes 30 --out first.safetensors
    python -m benchmarks.distil train --cases build/cases --init first.safetensors --minutes 30 --out second.safetensors

With the true codes, as the teacher has them, what is to be learned follows from what is seen, and a Refiner learns it
four times as fast as with estimates. It then trusts the code too much, so that the second part goes on with estimates
and gives the photos a share in the loss. The network's other modules stay as they are. ``--init`` takes a Refiner of
any scale: x2 and x3 begin with that of x4. With another network than the small one that ships, let it restore the cases
before the second part:

    python -m benchmarks.distil restore --cases build/cases --network small.safetensors

and give ``train`` that ``--network`` too.

``benchmarks.peers`` fetches SRMDNF, whose licence its page names. Runs in the repository's root.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.fetching import default_cache, fetch_model, fetch_ncnn, srmdnf
from benchmarks.peers.networks import NcnnNetwork, read_basis, srmd_code
from dan_fast.checkpoint import load, save
from dan_fast.command_line.arguments import HelpWithDefaults, whole_number
from dan_fast.config import SCALES
from dan_fast.errors import DanFastError
from dan_fast.evaluation.degraded_set import DegradedSet
from dan_fast.evaluation.measure import mean, measure
from dan_fast.image_files import find_images
from dan_fast.inference import Upscaler
from dan_fast.model import DAN

from .carried_over import with_refiner_of
from .cases import check_restored_by, make_cases, read_cases, restore_cases
from .learning import Recipe, train, with_refiner

SMALL = "v2-0.3M-x{}"  # by scale
SHAPE = 64, 4, 4  # channels, groups, blocks per group


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        {"cases": _cases, "restore": _restore, "train": _train}[args.part](args)
        return 0
    except (DanFastError, OSError) as error:
        print(f"distil: error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distil", description=(__doc__ or "").partition("\n")[0])
    parts = parser.add_subparsers(dest="part", required=True)
    cases = parts.add_parser("cases", help="make cases to learn from", formatter_class=HelpWithDefaults)
    cases.add_argument("--photos", type=Path, nargs="+", required=True, metavar="DIR", help="folders of sharp photos")
    cases.add_argument("--scale", type=int, choices=SCALES, default=4, help="scale of the network")
    cases.add_argument("--pca", type=Path, required=True, metavar="FILE", help="KAIR's srmd_pca_matlab.mat")
    cases.add_argument("--per-photo", type=whole_number(1), default=8, metavar="N", help="cases of each photo")
    cases.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR", help="folder for fetched files")
    cases.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the cases, 0.9 MB each")
    restore_ = parts.add_parser("restore", help="let another network restore the cases",
                                formatter_class=HelpWithDefaults)
    restore_.add_argument("--cases", type=Path, required=True, metavar="DIR", help="folder that the first part wrote")
    restore_.add_argument("--network", required=True, metavar="WEIGHTS",
                          help="network whose results the Refiner will get")
    train_ = parts.add_parser("train", help="train a Refiner on cases", formatter_class=HelpWithDefaults)
    train_.add_argument("--cases", type=Path, nargs="+", required=True, metavar="DIR",
                        help="folders that the first part wrote")
    train_.add_argument("--minutes", type=float, required=True, help="time of the training")
    train_.add_argument("--true-codes", action="store_true", help="learn with the codes of the true kernels")
    train_.add_argument("--network", metavar="WEIGHTS", help="network that restored the cases "
                        f"(default: {SMALL.format('SCALE')})")
    train_.add_argument("--init", metavar="WEIGHTS", help="start from this network's Refiner (default: a new one)")
    train_.add_argument("--val", type=Path, metavar="DIR", help="photos to measure on now and then (default: none)")
    train_.add_argument("--out", type=Path, required=True, metavar="FILE", help="the network's .safetensors")
    return parser


def _cases(args: argparse.Namespace) -> None:
    ncnn = fetch_ncnn(args.cache)
    network, basis = NcnnNetwork(ncnn, fetch_model(srmdnf(args.scale), args.cache)), read_basis(args.pca)
    small = load(SMALL.format(args.scale))
    make_cases(args.out, args.scale, small.config.kernel_size,
               lambda lr, kernel: network(lr, *srmd_code(kernel, basis)), find_images(args.photos), args.per_photo)
    restore_cases(args.out, small)


def _restore(args: argparse.Namespace) -> None:
    restore_cases(args.cases, load(args.network))


def _train(args: argparse.Namespace) -> None:
    cases = read_cases(*args.cases)
    scale = cases.hr.shape[1] // cases.lr.shape[1]
    small = load(args.network or SMALL.format(scale))
    if small.config.scale != scale:
        raise DanFastError(f"--network {args.network} is for x{small.config.scale}: expected one for x{scale}, as the "
                           "cases are")
    check_restored_by(small, *args.cases)
    try:
        model = with_refiner_of(small, load(args.init)) if args.init else with_refiner(small, *SHAPE)
    except DanFastError as error:
        raise DanFastError(f"--init {args.init}: {error}") from None
    recipe = (Recipe(args.minutes, True, 0.0, largest_sigma=3.0, lowers=False) if args.true_codes
              else Recipe(args.minutes, False, 0.3, largest_sigma=100.0, muon=0.003))

    def report(step: int, loss: float, average: DAN) -> None:
        save(average, args.out)
        figure = ""
        if args.val:
            rows = measure(DegradedSet.from_folder(args.val, model.config.scale), Upscaler(average))
            figure = f", {mean(rows, 'psnr_y'):.3f} dB"
        print(f"step {step}: loss {loss:.5f}{figure}", flush=True)

    train(model, cases, recipe, report)


if __name__ == "__main__":
    sys.exit(main())
