"""``dan-fast upscale`` where files, folders and disks are not as they should be: one line, and nothing half-written."""

import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support.photos import photo

from dan_fast.command_line import upscaling
from dan_fast.image_files import read_image, write_image

COMMAND = [sys.executable, "-m", "dan_fast.cli", "upscale"]


@pytest.fixture
def source(tmp_path):
    write_image(tmp_path / "in/a.png", photo(12, 10))
    return tmp_path / "in/a.png"


def everything(folder):
    """All names below ``folder``, hidden ones too."""
    return sorted(os.path.relpath(os.path.join(root, name), folder) for root, _, files in os.walk(folder)
                  for name in files)


def lines(capsys):
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error.splitlines()


# --- output ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("out", ["file", "file/below", "file/b.png"])
def test_an_output_folder_that_is_a_file(tmp_path, upscale, source, out, capsys):
    (tmp_path / "file").write_text("mine")
    assert upscale(source, "-o", tmp_path / out) == 2
    line, = lines(capsys)
    assert "file" in line and "cannot write to this folder" in line
    assert (tmp_path / "file").read_text() == "mine" and everything(tmp_path) == ["file", "in/a.png"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc, where nobody can write")
@pytest.mark.parametrize("out", ["/proc/results", "/proc/b.png"])
def test_a_folder_that_takes_no_files(upscale, source, out, capsys):
    assert upscale(source, "-o", out) == 2
    line, = lines(capsys)
    assert "/proc" in line and "cannot write to this folder" in line


def test_a_disk_that_takes_no_large_file(tmp_path, tiny_weights):
    """As on a full disk, writing fails in the middle."""
    write_image(tmp_path / "in/a.png", photo(64, 64))
    write_image(tmp_path / "in/b.png", photo(6, 6))
    found = subprocess.run([*COMMAND, str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--weights",
                            str(tiny_weights)], capture_output=True, text=True,
                           preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)))
    assert found.returncode == 1 and found.stderr.count("\n") == 1, found.stderr
    assert "a_x4.png: cannot be written: File too large" in found.stderr
    assert everything(tmp_path / "out") == ["b_x4.png"]


def test_a_full_disk_ends_the_batch(tmp_path, tiny_weights):
    mounted = tmp_path / "disk"
    mounted.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)],
                                      capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        for n in range(6):
            write_image(tmp_path / f"in/{n}.png", photo(64, 64, seed=n))
        found = subprocess.run([*COMMAND, str(tmp_path / "in"), "-o", str(mounted), "--weights", str(tiny_weights)],
                               capture_output=True, text=True)
        left = everything(mounted)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    assert found.returncode == 1 and "No space left on device" in found.stderr
    assert re.search(r"nothing more can be written: \d photos are left out", found.stderr)
    assert found.stderr.count("\n") <= 4 and not any(name.startswith(".") for name in left)


def test_a_reader_that_goes_away(tmp_path, tiny_weights, source):
    """``… -o - | head -c 1``: the end of the pipe is no error to speak of."""
    with subprocess.Popen([*COMMAND, str(source), "-o", "-", "--weights", str(tiny_weights)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 141 and error == ""


# --- photos --------------------------------------------------------------------------------------------


def test_a_photo_that_changes_while_it_is_read(tmp_path, upscale, source, monkeypatch, capsys):
    write_image(tmp_path / "in/b.png", photo(12, 10, seed=1))
    read = upscaling.read_image

    def slow(path):
        found = read(path)
        if path.name == "a.png":
            with open(path, "ab") as file:
                file.write(b"more")
        return found
    monkeypatch.setattr(upscaling, "read_image", slow)
    assert upscale(tmp_path / "in", "-o", tmp_path / "out") == 1
    line, = lines(capsys)
    assert "a.png: it changed while it was read" in line and everything(tmp_path / "out") == ["b_x4.png"]


def test_a_photo_that_vanishes(tmp_path, upscale, source, monkeypatch, capsys):
    write_image(tmp_path / "in/b.png", photo(12, 10))
    read = upscaling.read_image

    def gone(path):
        if path.name == "a.png":
            path.unlink()
        return read(path)
    monkeypatch.setattr(upscaling, "read_image", gone)
    assert upscale(tmp_path / "in", "-o", tmp_path / "out") == 1
    line, = lines(capsys)
    assert "a.png: no such file" in line


def test_loops_of_symbolic_links(tmp_path, upscale, source, capsys):
    for place in (tmp_path, tmp_path / "in"):
        (place / "one").symlink_to("two")
        (place / "two").symlink_to("one")
        (place / "self.png").symlink_to("self.png")
        (place / "up").symlink_to("..")
    assert upscale(tmp_path / "in", "-o", tmp_path / "out") == 0
    assert everything(tmp_path / "out") == ["a_x4.png"]
    capsys.readouterr()
    for arguments in ((tmp_path / "one", "-o", tmp_path / "out"), (tmp_path / "self.png", "-o", tmp_path / "out"),
                      (source, "-o", tmp_path / "one"), (source, "-o", tmp_path / "self.png"),
                      (source, "-o", tmp_path / "one/below"), (tmp_path / "in", "-o", tmp_path / "in/one")):
        code = upscale(*arguments)
        assert (code, len(lines(capsys))) in ((2, 1), (0, 0))
    assert source.is_file()


def test_devices_and_pipes_are_no_photos(tmp_path, upscale, capsys):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/null"):
        assert upscale(path, "-o", tmp_path / "out") == 1
        line, = lines(capsys)
        assert "not a file" in line


# --- the user's hand -----------------------------------------------------------------------------------


def test_ctrl_c_interrupts_within_a_photo(tmp_path):
    """What is finished is whole, nothing else is left, and it does not take long."""
    write_image(tmp_path / "in/a.png", photo(32, 32))
    write_image(tmp_path / "in/b.png", np.tile(photo(400, 500), (3, 3, 1)))  # minutes
    # An interrupt comes through when the tile is done that is being computed.
    with subprocess.Popen([*COMMAND, str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--tile", "64"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          # What a shell runs in the background ignores interrupts, and so would we.
                          preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as process:
        assert "a_x4.png" in process.stdout.readline()
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        error = process.stderr.read()
    assert process.returncode == 130 and error == "dan-fast upscale: interrupted\n"
    assert time.monotonic() - start < 30
    assert everything(tmp_path / "out") == ["a_x4.png"] and read_image(tmp_path / "out/a_x4.png").rgb.shape[0] == 128


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_on_a_terminal_the_bar_moves_within_a_photo(tmp_path, tiny_weights):
    import fcntl
    import pty
    import struct
    import termios
    write_image(tmp_path / "a.png", photo(200, 200))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with subprocess.Popen([*COMMAND, str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"), "--tile", "32",
                           "--weights", str(tiny_weights)], stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the end, on Linux
                break
            if not part:
                break
            shown += part
    os.close(ours)
    text = shown.decode()
    percentages = [int(number) for number in re.findall(r"(\d+)%\|", text)]
    assert process.returncode == 0 and percentages[-1] == 100 and any(0 < number < 100 for number in percentages)
    assert " -> " not in text and "1 of 1 photos upscaled" in text
