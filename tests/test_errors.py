import numpy as np
import pytest
from support.networks import tiny_config

import dan_fast
from dan_fast.cli import main
from dan_fast.errors import CheckpointError, did_you_mean, printable
from dan_fast.image_files import write_image

STEERS = "red\x1b[31m\r\n\x9b2J\u202e\u2028\udc80"


def test_escapes_what_steers_a_terminal():
    assert printable(STEERS) == r"red\x1b[31m\r\n\x9b2J\u202e\u2028\udc80"
    assert printable("Grüße, 写真\u3000é.png") == "Grüße, 写真\u3000é.png"


@pytest.mark.parametrize("command", ["upscale", "kernel", "pack"])
def test_names_of_files_cannot_steer_the_terminal(command, tmp_path, capfd):
    dan_fast.save(dan_fast.DAN(tiny_config(iterations=1)), tmp_path / "tiny.safetensors")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a\x1b[31m.png").write_bytes(b"no image")
    write_image(tmp_path / "in" / "b\x1b[31m.png", np.zeros((16, 16, 3), np.uint8))
    weights = ["--weights", str(tmp_path / "tiny.safetensors")]
    arguments = {"upscale": [str(tmp_path / "in"), "-o", str(tmp_path / "out"), *weights],
                 "kernel": [str(tmp_path / "in"), *weights],
                 "pack": [str(tmp_path / "in"), "--out", str(tmp_path / "p.tif")]}[command]
    assert main([command, *arguments]) == 1
    assert main([command, *(argument.replace("/in", "/in\x1b[31m") for argument in arguments)]) == 2
    printed = "".join(capfd.readouterr())
    assert r"a\x1b[31m.png" in printed and r"in\x1b[31m" in printed and "\x1b[31m" not in printed


@pytest.mark.parametrize(("name", "meant"), [
    ("v2-0.3M-4x", "v2-0.3M-x4"), ("v2-0.3M-2x", "v2-0.3M-x2"), ("V2-0.3m-X3", "v2-0.3M-x3"), ("defualt", "default"),
    ("v2-0.3M-iregular-x2", "v2-0.3M-irregular-x2")])
def test_the_nearest_name_is_suggested(name, meant):
    assert did_you_mean(name, dan_fast.available()) == f"; did you mean {meant}?"


@pytest.mark.parametrize("name", ["", "photo.png", "/home/me/net.pth"])
def test_nothing_is_suggested_for_names_like_no_other(name):
    assert did_you_mean(name, dan_fast.available()) == did_you_mean(name, []) == ""


def test_mistyped_weights_are_guessed():
    with pytest.raises(CheckpointError, match=r"; did you mean v2-0\.3M-x2\?$"):
        dan_fast.load("v2-0.3M-2x")
