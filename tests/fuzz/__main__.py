"""Fuzz the readers of images, weights, kernels and packs: ``PYTHONPATH=tests python -m fuzz``."""

import argparse
import os
import secrets
import sys
from pathlib import Path

from tqdm import tqdm

from .child import KINDS
from .run import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="how many broken images [%(default)s]")
    parser.add_argument("--checkpoints", type=int, default=3_000, help="how many broken weights [%(default)s]")
    parser.add_argument("--kernels", type=int, default=3_000, help="how many broken kernels [%(default)s]")
    parser.add_argument("--packs", type=int, default=1_000, help="how many broken packs of JPEGs [%(default)s]")
    parser.add_argument("--seed", type=int, default=None, help="the same files again [a new one, printed]")
    parser.add_argument("--first", type=int, default=0, help="number of the first file, to see one again [%(default)s]")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="folder for what failed [%(default)s]")
    arguments = parser.parse_args()
    seed = secrets.randbelow(10**9) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    failures = 0
    for kind in (kind for kind in KINDS if kind != "faulty"):
        count = getattr(arguments, kind)
        done = fuzz(kind, seed, count, first=arguments.first, workers=arguments.workers)
        for failure in tqdm(done, total=count, desc=kind):
            if failure:
                failures += 1
                tqdm.write(f"{failure.save(arguments.out / str(seed))}: {failure.why}")
    print(f"{failures} failures, seed {seed}")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
