"""Read broken files one by one and report on stdout what went wrong; started by ``run.py``."""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .mutate import broken

KINDS = ("images", "checkpoints", "kernels", "faulty", "packs")
SECONDS, MEGABYTES = 3, 300
# Lossless WebP and AVIF of one colour take no bytes per pixel: dozens of millions of pixels are read.
WEBP_MEGABYTES = 1000


def case(kind: str, seed: int, number: int, files: dict[str, bytes]) -> tuple[str, bytes]:
    """Return name and content of one broken file, always the same."""
    rng = np.random.default_rng([KINDS.index(kind), seed, number])
    name = str(rng.choice(list(files)))
    return name, broken(rng, name, files)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("seed", type=int)
    parser.add_argument("numbers", type=int, nargs=3, help="first, end, step")
    arguments = parser.parse_args()
    kind = importlib.import_module(f"{__package__}.{arguments.kind}")
    files = kind.sound_files()
    with tempfile.TemporaryDirectory() as folder, _stderr_in_a_file() as new_output:
        for name, content in files.items():  # modules are loaded once, which no broken file is to blame for
            (Path(folder) / name).write_bytes(content)
            kind.read(Path(folder) / name)
        new_output()
        _limit_memory()
        for number in range(*arguments.numbers):
            print(json.dumps({"begins": number}), flush=True)
            name, content = case(arguments.kind, arguments.seed, number, files)
            path = Path(folder) / name
            path.write_bytes(content)
            megabytes = WEBP_MEGABYTES if content[8:12] == b"WEBP" or content[4:8] == b"ftyp" else MEGABYTES
            wrong = _read(kind.read, path, megabytes + len(content) * 8 // 10**6)
            if noise := new_output():
                wrong += [f"printed {noise[:200]!r}"]
            if wrong:
                print(json.dumps({"wrong": number, "name": name, "why": "; ".join(wrong)}), flush=True)
    print(json.dumps({"ends": True}), flush=True)


def _read(read, path: Path, megabytes: int) -> list[str]:
    before, start = _peak_memory(), time.process_time()
    wrong = []
    try:
        read(path)
    except Exception:  # the reader lets only errors pass that it must not raise
        wrong.append(traceback.format_exc(limit=-3))
    seconds, used = time.process_time() - start, (_peak_memory(reset=False) - before) / 1e6
    if seconds > SECONDS:
        wrong.append(f"took {seconds:.1f} s")
    if used > megabytes:
        wrong.append(f"took {used:.0f} MB")
    return wrong


def _peak_memory(reset: bool = True) -> int:
    """The most bytes that were in memory since the last reset; 0 where the system does not tell."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


def _limit_memory() -> None:
    """Limit this process's memory: a file that makes it take all of it must not stop the machine."""
    if sys.platform == "linux":
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + 6 * 10**9, resource.RLIM_INFINITY))


@contextmanager
def _stderr_in_a_file() -> Iterator:
    """Yield a function that returns what was written to stderr since its last call, by any code of the process."""
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)

        def new_output() -> str:
            sys.stderr.flush()
            file.seek(0)
            noise = file.read().decode(errors="replace")
            file.seek(0)
            file.truncate()
            return noise

        try:
            yield new_output
        except BaseException:
            os.dup2(before, 2)
            raise
        finally:
            os.dup2(before, 2)


if __name__ == "__main__":
    main()
