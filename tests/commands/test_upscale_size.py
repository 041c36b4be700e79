"""``dan-fast upscale``: results of the size that was asked for."""

import argparse

import numpy as np
import pytest
from support.photos import photo

from dan_fast.checkpoint import BEST, load
from dan_fast.cli import main
from dan_fast.command_line.sizes import long_side, outscale, size
from dan_fast.errors import ImageError
from dan_fast.image_files import read_image, write_image
from dan_fast.inference import Upscaler
from dan_fast.ops.resize import resize_pixels


def shape(path):
    return read_image(path).rgb.shape[:2]


@pytest.mark.parametrize("wanted, photo_size, expected", [
    (size("3840x"), (1000, 1500), (2560, 3840)), (size("x2160"), (1000, 1500), (2160, 3240)),
    (size("3840x2160"), (1000, 1500), (2160, 3240)), (size("3840x2160"), (500, 1500), (1280, 3840)),
    (long_side("200"), (100, 30), (200, 60)), (long_side("200"), (30, 100), (60, 200)),
    (outscale("2.5"), (101, 33), (253, 83)), (outscale("x3"), (10, 20), (30, 60)), (outscale("1"), (7, 9), (7, 9)),
    (size("9x"), (1, 9), (1, 9)), (size("18x"), (1, 9), (2, 18)),
])
def test_wanted_sizes(wanted, photo_size, expected):
    assert wanted.of(*photo_size) == expected


@pytest.mark.parametrize("convert, texts", [
    (size, ["0x0", "x", "", "0x", "x0", "12", "3840", "-5x", "1e3x", "5x5x5", "99999999x", "x 5", "²x"]),
    (long_side, ["0", "-1", "", "2.5", "x100", "99999999", "²"]),
    (outscale, ["0", "0.5", "-2", "nan", "inf", "101", "", "xx2", "2x"]),
])
def test_sizes_that_are_none(convert, texts):
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match="expected"):
            convert(text)


def test_a_size_below_the_photos():
    for wanted in (size("50x"), long_side("50"), size("900x50")):
        with pytest.raises(ImageError, match=r"the photo has 100x60 pixels, more than .* asks for"):
            wanted.of(60, 100)


def test_a_size_that_no_memory_holds():
    with pytest.raises(ImageError, match=r"1000000x would make 1000000x300000000 pixels of it, .* ask for less"):
        size("1000000x").of(300, 1)


@pytest.mark.parametrize("arguments, expected, name", [
    (("--size", "95x"), (114, 95), "a_95x"), (("--size", "x60"), (60, 50), "a_x60"),
    (("--long-side", "100"), (100, 83), "a_100"), (("--outscale", "3.5"), (42, 35), "a_x3.5"),
    (("--outscale", "6"), (72, 60), "a_x6"),
])
def test_size_of_one_network_and_bicubic(tmp_path, upscale, tiny_weights, arguments, expected, name, capsys):
    write_image(tmp_path / "a.png", photo(12, 10))
    assert upscale(tmp_path / "a.png", "-o", tmp_path / "out", *arguments) == 0
    found = read_image(tmp_path / f"out/{name}.png").rgb
    full = Upscaler(load(tiny_weights))(photo(12, 10)).image
    assert found.shape[:2] == expected and np.array_equal(found, resize_pixels(full, *expected))
    assert ("the rest of the way" in capsys.readouterr().err) == (expected[0] > 48)


def test_the_smallest_scale_that_ships_and_reaches_it(tmp_path, capsys):
    write_image(tmp_path / "a.png", photo(14, 16))
    for factor, scale in (("1.5", 2), ("2", 2), ("2.2", 3), ("3", 3), ("3.1", 4), ("5", 4)):
        assert main(["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--outscale", factor]) == 0
        found = read_image(tmp_path / f"out/a_x{factor}.png").rgb
        full = Upscaler(load(BEST[scale]))(photo(14, 16)).image
        assert np.array_equal(found, resize_pixels(full, *found.shape[:2]))


def test_photos_of_different_sizes_get_different_scales(tmp_path, capsys):
    write_image(tmp_path / "in/a.png", photo(10, 20))
    write_image(tmp_path / "in/b.png", photo(24, 39))
    write_image(tmp_path / "in/c.png", photo(24, 90))  # larger than what is asked for
    assert main(["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--size", "78x", "--timing"]) == 1
    assert shape(tmp_path / "out/a_78x.png") == (39, 78) and shape(tmp_path / "out/b_78x.png") == (48, 78)
    out, error = capsys.readouterr()
    assert error.count("\n") == 1 and "c.png: the photo has 90x24 pixels, more than 78x" in error and "100.0 %" in out


def test_depth_grey_and_alpha_keep_their_kind(tmp_path, upscale):
    alpha = photo(12, 10, 1, np.uint16, seed=1)
    write_image(tmp_path / "a.png", photo(12, 10, 3, np.uint16), alpha)
    write_image(tmp_path / "b.tif", photo(12, 10, 1), grey=True)
    assert upscale(tmp_path / "a.png", tmp_path / "b.tif", "-o", tmp_path / "out", "--outscale", "2.5") == 0
    deep, grey = read_image(tmp_path / "out/a_x2.5.png"), read_image(tmp_path / "out/b_x2.5.tif")
    assert deep.rgb.shape == (30, 25, 3) and deep.rgb.dtype == np.uint16 and deep.alpha.shape == (30, 25)
    assert grey.grey and grey.rgb.shape == (30, 25, 3)


def test_a_comparison_has_the_size_of_the_result(tmp_path, upscale):
    write_image(tmp_path / "a.png", photo(40, 30))
    assert upscale(tmp_path / "a.png", "-o", tmp_path / "b.png", "--size", "100x", "--compare") == 0
    picture, result = read_image(tmp_path / "b_compare.png").rgb, read_image(tmp_path / "b.png").rgb
    bicubic = resize_pixels(photo(40, 30), *result.shape[:2])
    for part in (bicubic, result):
        height, width = part.shape[:2]
        assert any(np.array_equal(picture[top:top + height, left:left + width], part)
                   for top in range(picture.shape[0] - height + 1) for left in range(picture.shape[1] - width))


@pytest.mark.parametrize("arguments", [("--size", "100x", "--outscale", "2"), ("--size", "100x", "--long-side", "100"),
                                       ("--size", "0x0"), ("--long-side", "-5"), ("--outscale", "0.5"),
                                       ("--strength", "1.5"), ("--strength", "x"), ("--blur", "9"), ("--blur", "0.8y")])
def test_impossible_sizes_and_dials(tmp_path, upscale, arguments, capsys):
    write_image(tmp_path / "a.png", photo(12, 10))
    with pytest.raises(SystemExit) as end:
        upscale(tmp_path / "a.png", "-o", tmp_path / "out", *arguments)
    assert end.value.code == 2 and not (tmp_path / "out").exists()


def test_a_known_kernel_belongs_to_one_scale(tmp_path, capsys):
    write_image(tmp_path / "a.png", photo(12, 10))
    np.save(tmp_path / "k.npy", np.ones((3, 3)) / 9)
    arguments = ["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--size", "30x", "--kernel",
                 str(tmp_path / "k.npy")]
    assert main(arguments) == 2 and "name the --weights too" in capsys.readouterr().err
    assert main([*arguments, "--weights", "v2-0.3M-x3"]) == 0
