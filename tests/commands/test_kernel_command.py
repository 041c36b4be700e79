import json
import os
import subprocess
import sys

import numpy as np
import pytest
from support.json_output import objects
from support.photos import photo

from dan_fast.blur_kernels.shape import kernel_shape
from dan_fast.cli import main
from dan_fast.image_files import write_image


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for name, seed in (("a", 1), ("b", 2)):
        write_image(folder / f"{name}.png", photo(40, 48, seed=seed))
    return folder


def run(weights, *arguments):
    return main(["kernel", *map(str, arguments), "--weights", str(weights), "--device", "cpu"])


def test_json_has_one_line_per_photo(tiny_weights, photos, tmp_path, capsys):
    (photos / "c.png").write_bytes(b"no image")
    assert run(tiny_weights, photos, "-o", tmp_path / "out", "--json") == 1
    printed = capsys.readouterr()
    lines = {line["source"]: line for line in objects(printed.out)}
    assert set(lines) == {str(photos / f"{name}.png") for name in "abc"}
    for name in "ab":
        line = lines[str(photos / f"{name}.png")]
        assert line["error"] is None
        assert line["files"] == [str(tmp_path / "out" / f"{name}_kernel{suffix}") for suffix in (".png", ".npy")]
        kernel = np.load(line["files"][1])
        assert line["kernel_size"] == len(kernel)
        assert line["sigma_pixels"] == pytest.approx(kernel_shape(kernel).sigma)
        assert line["sigma_long_pixels"] * line["sigma_short_pixels"] == pytest.approx(line["sigma_pixels"]**2)
    failed = lines[str(photos / "c.png")]
    assert "not a readable" in failed["error"] and failed["error"] in printed.err
    assert failed["files"] == [] and failed["sigma_pixels"] is None and failed["shift_down_pixels"] is None
    assert printed.err.count("\n") == 1


def test_json_without_files_to_write(tiny_weights, photos, capsys):
    assert run(tiny_weights, photos / "a.png", "--json") == 0
    printed = capsys.readouterr()
    assert [line["files"] for line in objects(printed.out)] == [[]]
    assert printed.err == ""


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems refuse names that are not Unicode")
def test_json_of_a_name_that_is_not_unicode(tiny_weights, photos, capsys):
    odd = os.fsencode(photos) + b"/\xff\n.png"
    os.rename(photos / "a.png", odd)
    assert run(tiny_weights, os.fsdecode(odd), "--json") == 0
    text = capsys.readouterr().out
    assert [line["source"] for line in objects(text)] == [f"{photos}/\\udcff\n.png"]
    # Every reader of JSON takes it, also those that know no half of a character.
    text.encode("ascii")
    json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8")


def test_nothing_is_printed_but_json(tiny_weights, photos):
    """In a process of its own, where libraries could print too."""
    command = [sys.executable, "-m", "dan_fast.cli", "kernel", photos, "--weights", tiny_weights, "--json"]
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert result.returncode == 0 and len(objects(result.stdout)) == 2 and result.stderr == ""


def test_quiet_prints_errors_only(tiny_weights, photos, tmp_path, capsys):
    (photos / "c.png").write_bytes(b"no image")
    assert run(tiny_weights, photos, "-o", tmp_path / "out", "--quiet") == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "c.png" in printed.err
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_quiet_without_anything_to_show_is_refused(tiny_weights, photos, capsys):
    assert run(tiny_weights, photos, "--quiet") == 2
    assert "give -o DIR or --json" in capsys.readouterr().err
    assert run(tiny_weights, photos, "--quiet", "--json") == 0
    assert len(objects(capsys.readouterr().out)) == 2


def test_without_json_one_line_of_text_per_photo(tiny_weights, photos, capsys):
    assert run(tiny_weights, photos) == 0
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line.split(": sigma ")[0] for line in lines] == [str(photos / f"{name}.png") for name in "ab"]
