"""OpenCV needs no library of a desktop, so that dan_fast runs in a slim container."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

DESKTOP = ("libX11", "libxcb", "libGL", "libglib", "libgthread", "libSM", "libICE", "libXext")


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("ldd"), reason="there is no ldd here")
def test_opencv_names_no_library_of_a_desktop():
    files = sorted(Path(cv2.__file__).parent.rglob("*.so"))
    assert files
    for file in files:
        named = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=True).stdout
        assert "libc.so" in named
        found = [line.strip() for line in named.splitlines() if line.split()[0].startswith(DESKTOP)]
        assert not found, f"{file} needs {', '.join(found)}: install opencv-python-headless instead of opencv-python"
