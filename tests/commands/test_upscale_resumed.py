"""``dan-fast upscale --skip-existing``: a batch that was stopped goes on, and nothing stale is kept."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from support.photos import photo

from dan_fast.checkpoint import load, save
from dan_fast.image_files import read_image, write_image


@pytest.fixture
def photos(tmp_path):
    for n in range(3):
        write_image(tmp_path / f"in/{n}.png", photo(12, 10, seed=n))
    return tmp_path / "in"


def done(upscale, photos, capsys, *arguments):
    """The numbers of the photos that one call upscales."""
    capsys.readouterr()
    assert upscale(photos, "-o", photos.parent / "out", "--skip-existing", "--json", *arguments) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(list(photos.rglob("*.*")))
    return sorted(os.path.basename(line["source"]) for line in lines if not line["skipped"])


ALL = ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("arguments", [(), ("--format", "jpg"), ("--format", "webp"), ("--format", "tif"),
                                       ("--metadata", "none"), ("--save-kernel", "--compare"), ("--size", "60x"),
                                       ("--format", "avif")], ids=str)
def test_what_is_there_is_left_out(upscale, photos, capsys, arguments):
    assert done(upscale, photos, capsys, *arguments) == ALL
    before = {path: path.stat().st_mtime_ns for path in (photos.parent / "out").iterdir()}
    assert done(upscale, photos, capsys, *arguments) == []
    assert before == {path: path.stat().st_mtime_ns for path in (photos.parent / "out").iterdir()}


def test_results_of_a_call_without_the_option_count(upscale, photos, capsys):
    assert upscale(photos, "-o", photos.parent / "out") == 0
    assert done(upscale, photos, capsys) == []


def test_16_bits_count(upscale, tmp_path, capsys):
    write_image(tmp_path / "in/a.png", photo(12, 10, 3, np.uint16))
    write_image(tmp_path / "in/b.tif", photo(12, 10, 3, np.uint16))
    assert done(upscale, tmp_path / "in", capsys) == ["a.png", "b.tif"]
    assert done(upscale, tmp_path / "in", capsys) == []


def test_a_changed_photo_is_done_again(upscale, photos, capsys):
    done(upscale, photos, capsys)
    write_image(photos / "1.png", photo(12, 10, seed=9))
    assert done(upscale, photos, capsys) == ["1.png"]
    stamp = os.stat(photos / "2.png").st_mtime - 1000
    os.utime(photos / "2.png", (stamp, stamp))  # an older one was put in its place
    assert done(upscale, photos, capsys) == ["2.png"]
    assert done(upscale, photos, capsys) == []


def test_other_options_do_it_again(upscale, photos, capsys, tiny_weights, tmp_path):
    done(upscale, photos, capsys)
    for options in (("--quality", "80"), ("--strength", "0.5"), ("--blur", "0.8x"), ("--iterations", "2"),
                    ("--ensemble",), ("--metadata", "none"), ("--kernel-from", "crop"), ("--tolerance", "0.1"),
                    ("--dtype", "bf16"), ("--save-kernel",)):
        assert done(upscale, photos, capsys, *options) == ALL
        assert done(upscale, photos, capsys, *options) == []
    for options in (("--timing",),):  # these change no result
        assert done(upscale, photos, capsys, "--save-kernel", *options) == []


def test_other_weights_and_kernels_do_it_again(upscale, photos, capsys, tiny_weights, tmp_path):
    np.save(tmp_path / "k.npy", np.ones((3, 3)) / 9)
    assert done(upscale, photos, capsys, "--kernel", tmp_path / "k.npy") == ALL
    np.save(tmp_path / "k.npy", np.ones((5, 5)) / 25)
    assert done(upscale, photos, capsys, "--kernel", tmp_path / "k.npy") == ALL
    before = tiny_weights.read_bytes()
    model = load(tiny_weights)
    model.encoder *= 1.01
    try:
        save(model, tiny_weights)
        assert done(upscale, photos, capsys, "--kernel", tmp_path / "k.npy") == ALL
    finally:
        tiny_weights.write_bytes(before)


def test_a_missing_part_is_made_again(upscale, photos, capsys):
    done(upscale, photos, capsys, "--save-kernel")
    (photos.parent / "out/1_x4_kernel.npy").unlink()
    assert done(upscale, photos, capsys, "--save-kernel") == ["1.png"]


def test_foreign_and_broken_results_are_made_again(upscale, photos, capsys):
    out = photos.parent / "out"
    write_image(out / "0_x4.png", photo(48, 40))  # by another program
    (out / "1_x4.png").write_bytes(b"broken")
    done(upscale, photos, capsys)
    shutil.copy(out / "0_x4.png", out / "2_x4.png")  # another photo's result
    assert done(upscale, photos, capsys) == ["2.png"]


def test_results_may_be_moved(upscale, photos, capsys):
    done(upscale, photos, capsys)
    out = photos.parent / "out"
    shutil.copytree(out, photos.parent / "copy")
    shutil.rmtree(out)
    (photos.parent / "copy").rename(out)
    assert done(upscale, photos, capsys) == []


def test_one_file(upscale, photos, capsys):
    for expected in ("1 of 1 photos upscaled", "0 of 1 photos upscaled into"):
        assert upscale(photos / "0.png", "-o", photos.parent / "b.jpg", "--skip-existing") == 0
        out = capsys.readouterr().out
        assert expected in out and ("1 were there already" in out) == (expected[0] == "0")


def test_the_note_says_nothing_of_the_photo(upscale, photos):
    """``--metadata none`` leaves the version and a hash."""
    assert upscale(photos / "0.png", "-o", photos.parent / "b.png", "--metadata", "none") == 0
    with Image.open(photos.parent / "b.png") as result:
        tags = dict(result.getexif())
    assert list(tags) == [0x0B] and len(tags[0x0B].split()) == 3 and tags[0x0B].startswith("dan_fast ")


def test_a_killed_batch_goes_on(tmp_path):
    """Killed between photos, and within one: no half file is left that counts, and nothing is done twice."""
    for n in range(12):
        write_image(tmp_path / f"in/{n:02}.png", photo(96, 96, seed=n))
    command = [sys.executable, "-m", "dan_fast.cli", "upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"),
               "--skip-existing"]
    stamps = {}
    rounds = 0
    for rounds in range(20):  # noqa: B007
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
            finished = 0
            for line in process.stdout:
                finished += " -> " in line
                if finished == 3:
                    process.send_signal(signal.SIGKILL)
        for path in sorted((tmp_path / "out").glob("*.png")):
            assert read_image(path).rgb.shape == (384, 384, 3)
            assert stamps.setdefault(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL
    assert rounds >= 2 and len(stamps) == 12
    started = time.monotonic()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and "0 of 12 photos upscaled" in again.stdout, again
    assert time.monotonic() - started < 30
