"""Compiles, without a GPU, all that gpu-check would compile on a machine with one: ``make gpu-carry PYTHON=…``.

    python benchmarks/gpu_carry.py [--probe FILE.cu]

For a machine that is lent for minutes and reaches no network. ``python`` must belong to an environment with the same
CUDA build of torch and the same Triton as there. The folder ``.carry``, which git ignores, gets the extension, built
with CUDA and stripped (the one in ``kernels/`` stays as it is), Triton's cache, filled for sm_90 by Triton's own
launchers, a compiled probe if one is named, and the revision. On the other machine, with this folder in its place:

    python3 benchmarks/gpu_check.py --prebuilt --seconds 680 --out FOLDER

Triton keeps absolute paths, so its cache lies in the same place on both machines. A Triton kernel that changed since is
compiled there after all, and with another Triton all of them are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CARRY = ROOT / ".carry"
ARCHIVE = CARRY / "triton.txz"
PROBE = CARRY / "probe"
REVISION = CARRY / "revision"
EXTENSION = "dan_fast_kernels/_C*.so"  # in CARRY
# Not the user's temporary folder, which may lie elsewhere on the other machine.
CACHE = Path("/tmp/dan-fast-triton")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--probe", type=Path, help="a CUDA program to compile for sm_90a and run first")
    args = parser.parse_args()
    CARRY.mkdir(exist_ok=True)
    start = time.monotonic()

    def done(what: str) -> None:
        print(f"{time.monotonic() - start:4.0f} s: {what}", flush=True)

    subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--build-lib", CARRY, "--build-temp",
                    ROOT / "build" / "carry"], cwd=ROOT, check=True, env={**os.environ, "DAN_FAST_CUDA": "1"})
    extension, = CARRY.glob(EXTENSION)
    subprocess.run(["strip", "-s", extension], check=True)
    done(f"{extension.relative_to(ROOT)}, {_mib(extension)} MiB")
    with tempfile.TemporaryDirectory() as site:
        link_kernels(Path(site))
        shutil.rmtree(CACHE, ignore_errors=True)
        path = os.pathsep.join((site, str(ROOT)))
        subprocess.run([sys.executable, "benchmarks/gpu_cache.py"], cwd=ROOT, check=True,
                       env={**os.environ, "PYTHONPATH": path, "TRITON_CACHE_DIR": str(CACHE)})
    with tarfile.open(ARCHIVE, "w:xz", preset=2) as archive:  # seconds, for 60 % of gzip's size
        archive.add(CACHE, CACHE.name)
    done(f"{ARCHIVE.relative_to(ROOT)}, {_mib(ARCHIVE)} MiB")
    if args.probe:
        subprocess.run(["nvcc", "-O3", "-std=c++17", "-gencode=arch=compute_90a,code=sm_90a", "-o", PROBE, args.probe],
                       check=True)
        done(f"{PROBE.relative_to(ROOT)}, {_mib(PROBE)} MiB")
    from gpu_check import revision

    REVISION.write_text(revision() + "\n")
    size = sum(path.stat().st_size for path in CARRY.rglob("*")) / 2**20
    print(f"Take along {CARRY.relative_to(ROOT)}, {size:.1f} MiB; there:\n"
          "    python3 benchmarks/gpu_check.py --prebuilt --seconds 680 --out FOLDER")
    return 0


def link_kernels(site: Path) -> None:
    """Makes the package ``dan_fast_kernels`` in the folder ``site``, from the checkout's and the carried extension."""
    package = site / "dan_fast_kernels"
    package.mkdir()
    files = [*ROOT.glob("kernels/*.py"), *ROOT.glob("kernels/*.json")]
    for path in (*files, *(list(CARRY.glob(EXTENSION)) or ROOT.glob("kernels/_C*.so"))):
        (package / path.name).symlink_to(path)


def _mib(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.1f}"


if __name__ == "__main__":
    sys.exit(main())
