"""What needs no network and no image answers at once: it imports neither torch nor OpenCV, NumPy and Pillow."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("PIL", "cv2", "numpy", "torch")
QUICK = [[], ["--help"], ["--version"], ["completion", "--help"], ["completion", "bash"], ["completion", "zsh"],
         ["completion", "tcsh"], ["upscal"]]
# Beside bare Python: argparse, difflib and two dozen small modules. They take two to six times its time, torch fifty.
# A machine on which bare Python is slow gets more than the 0.2 s.
MOST_SECONDS, MOST_TIMES = 0.2, 15.0


def command(arguments: list[str], then: str = "") -> list[str]:
    run = "\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
    return [sys.executable, "-c", f"import sys; from dan_fast.cli import main{run}{then}", *arguments]


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_nothing_heavy_is_imported(arguments):
    tell = f"sys.stderr.write('imported:' + ','.join(name for name in {HEAVY} if name in sys.modules) + '.')"
    said = subprocess.run(command(arguments, tell), capture_output=True, text=True, check=True)
    assert said.stderr.endswith("imported:.")


def test_the_package_alone_imports_nothing_heavy():
    code = f"import sys, dan_fast; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def seconds(arguments: list[str]) -> float:
    """The CPU time of a process, the best of five."""
    import resource  # Windows has none

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return min(once() for _ in range(5))


@pytest.mark.skipif(os.name == "nt", reason="Windows does not count the time of children")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["completion", "bash"]], ids=" ".join)
def test_it_takes_little_more_than_python_itself(arguments):
    assert seconds(command(arguments)) < max(MOST_SECONDS, MOST_TIMES * seconds([sys.executable, "-c", "pass"]))
