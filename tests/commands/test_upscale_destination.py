"""``dan-fast upscale``: an output file, names, standard input and output."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.photos import photo

from dan_fast.command_line.destination import destination
from dan_fast.errors import DanFastError
from dan_fast.image_files import read_image, write_image

COMMAND = [sys.executable, "-m", "dan_fast.cli", "upscale"]


def saved(path, *size, **options):
    write_image(path, photo(*(size or (12, 10))), **options)
    return path


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- one file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "JPG", "webp", "tif", "tiff"])
def test_a_photo_becomes_the_file_that_is_named(tmp_path, upscale, suffix, capsys):
    assert upscale(saved(tmp_path / "a.jpg"), "-o", tmp_path / f"new/b.{suffix}") == 0
    assert names(tmp_path / "new") == [f"b.{suffix}"]
    assert read_image(tmp_path / f"new/b.{suffix}").rgb.shape == (48, 40, 3)
    assert f"b.{suffix}" in capsys.readouterr().out


def test_what_belongs_to_it_lies_beside_it(tmp_path, upscale):
    assert upscale(saved(tmp_path / "a.png"), "-o", tmp_path / "out/b.jpg", "--save-kernel", "--compare") == 0
    assert names(tmp_path / "out") == ["b.jpg", "b_compare.png", "b_kernel.npy", "b_kernel.png"]


def test_a_folder_of_one_photo_becomes_the_file(tmp_path, upscale):
    saved(tmp_path / "in/a.png")
    assert upscale(tmp_path / "in", "-o", tmp_path / "b.png") == 0
    assert names(tmp_path) == ["b.png", "in/a.png"]


def test_several_photos_do_not_become_one_file(tmp_path, upscale, capsys):
    saved(tmp_path / "in/a.png"), saved(tmp_path / "in/b.png")
    for paths in ([tmp_path / "in"], [tmp_path / "in/a.png", tmp_path / "in/b.png"]):
        assert upscale(*paths, "-o", tmp_path / "b.png") == 2
        assert "b.png: 2 photos cannot become one file: give a folder" in capsys.readouterr().err
    assert names(tmp_path) == ["in/a.png", "in/b.png"]


def test_folders_are_folders_whatever_their_name(tmp_path, upscale):
    (tmp_path / "is.png").mkdir()
    source = saved(tmp_path / "a.png")
    for out in ("is.png", "new.png/", "release-1.2", "no-suffix"):
        assert upscale(source, "-o", f"{tmp_path}/{out}") == 0
        assert names(tmp_path / out) == ["a_x4.png"]


def test_the_photo_itself_is_never_overwritten(tmp_path, upscale, capsys, monkeypatch):
    source = saved(tmp_path / "a.png")
    before = source.read_bytes()
    (tmp_path / "link.png").symlink_to(source)
    monkeypatch.chdir(tmp_path)
    for out in ("a.png", "./a.png", "link.png", str(source)):
        assert upscale(source, "-o", out) == 2
        assert "would be overwritten" in capsys.readouterr().err and source.read_bytes() == before


@pytest.mark.parametrize("name", ["b.gif", "b.bmp", "b.heic", "b.JXL"])
def test_formats_that_are_not_written(tmp_path, upscale, name, capsys):
    assert upscale(saved(tmp_path / "a.png"), "-o", tmp_path / name) == 2
    error = capsys.readouterr().err
    assert f"cannot write {name[1:].lower()}" in error and error.count("\n") == 1
    assert names(tmp_path) == ["a.png"]


# --- names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix, name", [("-big", "a-big.png"), ("", "a.png"), ("_%d{x}", "a_%d{x}.png"),
                                          (".x4", "a.x4.png")])
def test_suffix(tmp_path, upscale, suffix, name):
    assert upscale(saved(tmp_path / "in/a.png"), "-o", tmp_path / "out", f"--suffix={suffix}") == 0
    assert names(tmp_path / "out") == [name]


def test_an_empty_suffix_does_not_overwrite_the_photo(tmp_path, upscale, capsys):
    source = saved(tmp_path / "a.png")
    before = source.read_bytes()
    assert upscale(source, "-o", tmp_path, "--suffix", "") == 2
    assert "would be overwritten" in capsys.readouterr().err and source.read_bytes() == before


@pytest.mark.parametrize("name", ["-dash.png", "two words.png", "grün 中文 😀.png", "100%d.png", "%s{0}.png",
                                  "a\nb.png", os.fsdecode(b"latin-\xe9.png"), "x" * 243 + ".png"])
def test_odd_names(tmp_path, upscale, name, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    saved(tmp_path / "in/a.png").rename(tmp_path / "in" / name)
    assert upscale("in", "-o", "out") == 0
    stem = name.removesuffix(".png")
    assert os.listdir("out") == [f"{stem}_x4.png"]
    out, _ = capsys.readouterr()
    assert out.count("\n") == 2  # a line for the photo, a line for all: no name makes another


def test_a_name_that_would_be_too_long_fails_before_the_work(tmp_path, upscale, capsys):
    saved(tmp_path / "in" / f"{'ä' * 125}.png")  # 254 bytes
    assert upscale(tmp_path / "in", "-o", tmp_path / "out") == 1
    assert "has more than 255 bytes: rename the photo, or give a shorter --suffix" in capsys.readouterr().err
    assert upscale(tmp_path / "in", "-o", tmp_path / "out", "--suffix", "") == 0


def test_a_leading_dash_after_two_dashes(tmp_path, tiny_weights):
    saved(tmp_path / "a.png").rename(tmp_path / "-a.png")
    found = subprocess.run([*COMMAND, "--weights", str(tiny_weights), "-o", "out", "--", "-a.png"], cwd=tmp_path)
    assert found.returncode == 0 and names(tmp_path / "out") == ["-a_x4.png"]


# --- standard input and output ---------------------------------------------------------------------------


def piped(data, *arguments, weights):
    return subprocess.run([*COMMAND, *map(str, arguments), "--weights", str(weights)], input=data, capture_output=True)


def test_a_photo_through_pipes(tmp_path, tiny_weights, upscale):
    source = saved(tmp_path / "a.jpg")
    assert upscale(source, "-o", tmp_path / "b.png") == 0
    found = piped(source.read_bytes(), "-", "-o", "-", weights=tiny_weights)
    assert found.returncode == 0, found.stderr
    picture = np.asarray(Image.open(io.BytesIO(found.stdout)))
    assert np.array_equal(picture, read_image(tmp_path / "b.png").rgb)
    found = piped(source.read_bytes(), "-", "-o", tmp_path / "c.png", weights=tiny_weights)
    assert found.returncode == 0 and np.array_equal(read_image(tmp_path / "c.png").rgb, picture)
    found = piped(source.read_bytes(), "-", "-o", tmp_path / "folder", weights=tiny_weights)
    assert found.returncode == 0 and names(tmp_path / "folder") == ["stdin_x4.png"]
    found = piped(b"", source, "-o", "-", "--format", "jpg", weights=tiny_weights)
    assert found.returncode == 0 and found.stdout.startswith(b"\xff\xd8")


@pytest.mark.parametrize("data", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_broken_standard_input(data, tiny_weights):
    found = piped(data, "-", "-o", "-", weights=tiny_weights)
    assert found.returncode == 1 and found.stdout == b""
    lines = found.stderr.decode().splitlines()
    assert lines[0].startswith("standard input: ") and len(lines) == 2


def test_standard_input_comes_alone(tmp_path, upscale, capsys):
    assert upscale("-", saved(tmp_path / "a.png"), "-o", tmp_path / "out") == 2
    assert "a photo from standard input comes alone" in capsys.readouterr().err


def test_a_full_standard_output_is_one_line(tmp_path, tiny_weights):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    source = saved(tmp_path / "a.png")
    with open("/dev/full", "wb") as full:
        found = subprocess.run([*COMMAND, str(source), "-o", "-", "--weights", str(tiny_weights)], stdout=full,
                               stderr=subprocess.PIPE, text=True)
    assert found.returncode == 1 and "No space left on device" in found.stderr and "Traceback" not in found.stderr


def test_a_terminal_gets_no_image(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with pytest.raises(DanFastError, match="standard output is a terminal"):
        destination("-")


# --- contradictions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, error", [
    (("-o", "b.png", "--suffix", "x"), "--suffix is for results in a folder"),
    (("-o", "b.png", "--format", "jpg"), "name two formats"),
    (("-o", "-", "--save-kernel"), "not standard output"),
    (("-o", "-", "--compare"), "not standard output"),
    (("-o", "-", "--json"), "choose one"),
    (("-o", "-", "--skip-existing"), "--skip-existing needs files"),
    (("-o", "out", "--suffix", "a/b"), "expected a part of a file name"),
    (("-o", ""), "expected the name of a folder or of a file"),
    (("-o", "out", "--blur", "0.8", "--iterations", "1"), "at least 2 iterations"),
])
def test_contradictions(tmp_path, upscale, arguments, error, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "a.png")
    assert upscale("a.png", *arguments) == 2
    found = capsys.readouterr().err
    assert error in found and found.count("\n") == 1 and names(tmp_path) == ["a.png"]


def test_one_format_named_twice_is_fine(tmp_path, upscale):
    assert upscale(saved(tmp_path / "a.png"), "-o", tmp_path / "b.jpeg", "--format", "jpg") == 0


# --- for programs, and quiet ------------------------------------------------------------------------------


def test_json_lines(tmp_path, upscale, capsys):
    saved(tmp_path / "in/a.png"), saved(tmp_path / "in/c.png")
    (tmp_path / "in/b.png").write_bytes(b"broken")
    assert upscale(tmp_path / "in", "-o", tmp_path / "out", "--json", "--save-kernel", "--size", "70x") == 1
    found = {line["source"].rpartition("/")[2]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert sorted(found) == ["a.png", "b.png", "c.png"]
    good, bad = found["a.png"], found["b.png"]
    assert (good["width"], good["height"], good["scale"]) == (70, 84, 7) and good["error"] is None
    assert good["result"] == str(tmp_path / "out/a_70x.png") and good["result"] in good["files"]
    assert all(os.path.isfile(file) for file in good["files"]) and len(good["files"]) == 3
    assert good["sigma_pixels"] > 0 and good["seconds"] > 0 and "bicubic" in good["notes"][0]
    assert bad["result"] is None and "b.png" in bad["error"] and not bad["files"]
    assert all(line["schema"] == "dan-fast/upscale/1" and list(line) == list(good) for line in found.values())


def test_json_has_no_width_of_a_kernel_that_was_given(tmp_path, upscale, capsys):
    np.save(tmp_path / "k.npy", np.ones((3, 3)) / 9)
    assert upscale(saved(tmp_path / "a.png"), "-o", tmp_path / "b.png", "--json", "--kernel", tmp_path / "k.npy") == 0
    assert json.loads(capsys.readouterr().out)["sigma_pixels"] is None


def test_quiet(tmp_path, upscale, capsys):
    saved(tmp_path / "in/a.png")
    assert upscale(tmp_path / "in", "-o", tmp_path / "out", "--quiet", "--size", "70x") == 0
    assert capsys.readouterr() == ("", "")
    (tmp_path / "in/b.png").write_bytes(b"broken")
    assert upscale(tmp_path / "in", "-o", tmp_path / "out", "--quiet") == 1
    out, error = capsys.readouterr()
    assert out == "" and "b.png" in error and error.count("\n") == 1


def test_a_line_for_each_photo_where_there_is_no_terminal(tmp_path, upscale, capsys):
    saved(tmp_path / "in/a.png"), saved(tmp_path / "in/b.png")
    assert upscale(tmp_path / "in", "-o", tmp_path / "out") == 0
    out, error = capsys.readouterr()
    assert out.splitlines()[0].startswith(f"{tmp_path}/in/a.png -> {tmp_path}/out/a_x4.png (40x48, ")
    assert len(out.splitlines()) == 3 and error == ""
