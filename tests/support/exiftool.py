"""ExifTool, an independent reader and writer of metadata."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def exiftool(*arguments: str | Path) -> str:
    """Run exiftool and return what it prints.

    Where it is absent the test is skipped, or fails if ``DAN_FAST_REQUIRE_EXIFTOOL`` is 1.
    """
    if shutil.which("exiftool") is None:
        reason = "exiftool is not installed"
        (pytest.fail if os.environ.get("DAN_FAST_REQUIRE_EXIFTOOL") == "1" else pytest.skip)(reason)
    return subprocess.run(["exiftool", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


def tags(path: Path, *groups: str) -> dict[str, Any]:
    """The metadata in a file: numbers and texts by group and name, such as "GPS:GPSLatitude", only of ``groups``."""
    return tags_of([path], *groups)[0]


def tags_of(paths: list[Path], *groups: str) -> list[dict[str, Any]]:
    """As ``tags``, of several files at once, which takes as long as of one."""
    return [{name: value for name, value in found.items() if not groups or name.partition(":")[0] in groups}
            for found in json.loads(exiftool("-json", "-G1", "-n", *paths))]
