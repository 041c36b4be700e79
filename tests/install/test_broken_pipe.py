"""A command whose output nobody reads any more, as in ``dan-fast doctor | head -1``, ends at once and quietly."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dan_fast.cli import BROKEN_PIPE


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("command", ["doctor", "completion bash"])
def test_a_full_disk_is_one_line(command):
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-m", "dan_fast.cli", *command.split()], stdout=full,
                               stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1 and "No space left on device" in ended.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no broken pipes")
@pytest.mark.parametrize("buffered", [True, False])  # without a buffer print fails, with one what happens at the end
@pytest.mark.parametrize("command", ["doctor", "completion bash", "--help", "upscale --help"])
def test_nothing_is_said(command, buffered):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run([sys.executable, "-m", "dan_fast.cli", *command.split()], stdout=writer,
                               stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"})
    finally:
        os.close(writer)
    assert ended.stderr == ""
    # argparse itself ignores that its help cannot be written.
    assert ended.returncode == BROKEN_PIPE or (ended.returncode == 0 and "--help" in command)
