"""``dan-fast upscale --json``: a line for every photo, done, left out or failed."""

from __future__ import annotations

import numpy as np
import pytest
from support.json_output import objects
from support.photos import photo

from dan_fast.blur_kernels.shape import kernel_shape
from dan_fast.cli import main
from dan_fast.image_files import read_image, write_image


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for name, seed in (("a", 1), ("b", 2)):
        write_image(folder / f"{name}.png", photo(24, 32, seed=seed))
    (folder / "c.png").write_bytes(b"no image")
    return folder


def lines(weights, capsys, *arguments):
    """The exit code, and the lines by the names of their photos; errors are on stderr, and nothing else is."""
    code = main(["upscale", *map(str, arguments), "--weights", str(weights), "--device", "cpu", "--json"])
    printed = capsys.readouterr()
    found = objects(printed.out)
    assert printed.err.count("\n") == sum(line["error"] is not None for line in found)
    return code, {line["source"].rpartition("/")[2]: line for line in found}


def test_done_failed_and_left_out(tiny_weights, photos, tmp_path, capsys):
    out = tmp_path / "out"
    code, found = lines(tiny_weights, capsys, photos, "-o", out, "--skip-existing")
    assert code == 1 and set(found) == {"a.png", "b.png", "c.png"}
    for name in ("a", "b"):
        line = found[f"{name}.png"]
        assert line["result"] == str(out / f"{name}_x4.png") and line["files"] == [line["result"]]
        height, width = read_image(out / f"{name}_x4.png").rgb.shape[:2]
        assert (line["width"], line["height"], line["scale"]) == (width, height, 4) == (128, 96, 4)
        assert line["seconds"] > 0 and line["sigma_pixels"] > 0 and not line["skipped"] and line["error"] is None
    assert found["c.png"]["result"] is None and "not a readable" in found["c.png"]["error"]
    code, found = lines(tiny_weights, capsys, photos, "-o", out, "--skip-existing")
    assert code == 1 and {name: line["skipped"] for name, line in found.items()} == {
        "a.png": True, "b.png": True, "c.png": False}
    assert found["a.png"]["result"] == str(out / "a_x4.png") and found["a.png"]["files"] == []


def test_all_files_and_the_width_of_the_kernel(tiny_weights, photos, tmp_path, capsys):
    code, found = lines(tiny_weights, capsys, photos / "a.png", "-o", tmp_path, "--save-kernel", "--compare")
    assert code == 0
    assert sorted(found["a.png"]["files"]) == sorted(map(str, tmp_path.glob("a_x4*")))
    kernel = np.load(tmp_path / "a_x4_kernel.npy")
    assert found["a.png"]["sigma_pixels"] == pytest.approx(kernel_shape(kernel).sigma)


def test_what_is_lost_is_noted(tiny_weights, tmp_path, capsys):
    write_image(tmp_path / "deep.png", photo(16, 16, dtype=np.uint16))
    code, found = lines(tiny_weights, capsys, tmp_path / "deep.png", "-o", tmp_path / "deep.jpg")
    assert code == 0 and any("8 bits" in note for note in found["deep.png"]["notes"])
