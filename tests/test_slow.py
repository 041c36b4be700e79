"""``make quick`` leaves out what it says that it leaves out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from support.slow import SLOW

TESTS = Path(__file__).parent


def test_each_expression_matches_a_test() -> None:
    """One that matches none is of tests that were renamed, and are no longer left out."""
    collected = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider",
                                "-p", "no:xdist", str(TESTS)], capture_output=True, text=True, cwd=TESTS.parent)
    assert collected.returncode == 0, collected.stdout[-2000:] + collected.stderr[-2000:]
    tests = "\n".join(line for line in collected.stdout.splitlines() if "::" in line)
    assert [expression for expression in SLOW if not re.search(expression, tests)] == []
