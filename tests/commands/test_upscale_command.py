"""``dan-fast upscale`` and ``dan-fast kernel``: names, exit codes, and that no photo is ever overwritten."""

import os
import re
import threading

import cv2
import numpy as np
import pytest
import torch

from dan_fast.checkpoint import load, save
from dan_fast.cli import main
from dan_fast.command_line import upscaling
from dan_fast.command_line.photo_jobs import Job, find_jobs, for_each
from dan_fast.errors import DanFastError
from dan_fast.evaluation.measure import bicubic
from dan_fast.image_files import read_image, write_image
from dan_fast.inference import Upscaler


@pytest.fixture
def dan_fast(tiny_weights):
    def call(command, *arguments):
        return main([command, *map(str, arguments), "--weights", str(tiny_weights), "--device", "cpu"])
    return call


def image(path, *, size=(12, 10), dtype=np.uint8, **options):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (*size, 3), dtype=dtype)
    write_image(path, pixels, **options)
    return path


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names(folder):
    return sorted(contents(folder))


# --- what it writes ----------------------------------------------------------------------------------


def test_a_folder_keeps_its_tree(tmp_path, dan_fast, capsys):
    for name in ("a.png", "sub/b.JPG", "sub/deeper/c.tif", "d.webp"):
        image(tmp_path / "in" / name)
    cv2.imwrite(str(tmp_path / "in" / "e.bmp"), np.zeros((5, 5, 3), np.uint8))
    assert dan_fast("upscale", tmp_path / "in", "-o", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["a_x4.png", "d_x4.webp", "e_x4.png", "sub/b_x4.jpg", "sub/deeper/c_x4.tif"]
    assert read_image(tmp_path / "out" / "sub" / "b_x4.jpg").rgb.shape == (48, 40, 3)
    assert "5 of 5" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_format(tmp_path, dan_fast, suffix):
    image(tmp_path / "a.png")
    assert dan_fast("upscale", tmp_path / "a.png", "-o", tmp_path / "out", "--format", suffix) == 0
    assert names(tmp_path / "out") == [f"a_x4.{suffix}"]


def test_depth_alpha_grey_and_profile_are_kept(tmp_path, dan_fast):
    alpha = np.zeros((12, 10), np.uint16)
    alpha[:, 5:] = 65535
    image(tmp_path / "a.png", dtype=np.uint16, alpha=alpha, icc_profile=bytes(16) + b"RGB " + b"p" * 200)
    image(tmp_path / "b.tif", dtype=np.uint16, grey=True, icc_profile=bytes(16) + b"GRAY" + b"p" * 200)
    assert dan_fast("upscale", tmp_path / "a.png", tmp_path / "b.tif", "-o", tmp_path / "out") == 0
    colour, grey = (read_image(tmp_path / "out" / name) for name in ("a_x4.png", "b_x4.tif"))
    assert grey.grey and not colour.grey
    for photo in (colour, grey):
        assert photo.rgb.dtype == np.uint16 and photo.icc_profile[-200:] == b"p" * 200
    assert np.array_equal(colour.alpha, cv2.resize(alpha, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC))


def test_kernel_and_comparison(tmp_path, dan_fast):
    image(tmp_path / "a.jpg", grey=True)
    assert dan_fast("upscale", tmp_path / "a.jpg", "-o", tmp_path / "out", "--save-kernel", "--compare") == 0
    assert names(tmp_path / "out") == ["a_x4.jpg", "a_x4_compare.png", "a_x4_kernel.npy", "a_x4_kernel.png"]
    kernel = np.load(tmp_path / "out" / "a_x4_kernel.npy")
    assert kernel.shape == (21, 21) and kernel.sum() == pytest.approx(1, abs=1e-5)
    picture = read_image(tmp_path / "out" / "a_x4_compare.png").rgb
    # Bicubic as in all tables, MATLAB's, is the leftmost; higher pictures leave white above and below it.
    expected = bicubic(read_image(tmp_path / "a.jpg").rgb, 4)
    assert any(np.array_equal(picture[top:top + 48, left:left + 40], expected)
               for top in range(picture.shape[0] - 47) for left in range(24))


def test_what_is_lost_is_said(tmp_path, dan_fast, capsys):
    image(tmp_path / "a.png", dtype=np.uint16)
    assert dan_fast("upscale", tmp_path / "a.png", "-o", tmp_path / "out", "--format", "jpg") == 0
    assert "a.png: JPEG holds 8 bits" in capsys.readouterr().err


def test_a_second_run_replaces_the_results_and_nothing_else(tmp_path, dan_fast):
    image(tmp_path / "a.png")
    out = tmp_path / "out"  # inside the folder of photos: results are not upscaled again
    assert dan_fast("upscale", tmp_path, "-o", out) == 0
    first = contents(tmp_path)
    (out / "a_x4.png").write_bytes(b"old")
    assert dan_fast("upscale", tmp_path, "-o", out) == 0
    assert contents(tmp_path) == first


def test_kernel_command(tmp_path, dan_fast, capsys):
    image(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    assert dan_fast("kernel", tmp_path / "a.png") == 0
    assert "a.png: sigma " in capsys.readouterr().out and names(tmp_path) == ["a.png", "b.png"]
    assert dan_fast("kernel", tmp_path, "-o", tmp_path / "out") == 1
    assert names(tmp_path / "out") == ["a_kernel.npy", "a_kernel.png"]
    assert "b.png" in capsys.readouterr().err


def test_reading_and_writing_overlap_with_the_work_and_three_are_held_at_most():
    held, most, order = set(), [0], []
    reading_during_work = threading.Barrier(2)  # raises an error unless both come

    def read(job):
        held.add(job)
        most[0] = max(most[0], len(held))
        if job == 1:
            reading_during_work.wait(10)
        return job

    def work(job, photo):
        if job == 0:
            reading_during_work.wait(10)
        return photo

    def write(job, result):
        assert job == result
        order.append(job)
        held.remove(job)

    assert for_each(list(range(8)), read, work, write) == 0
    assert order == list(range(8)) and most[0] <= 3 and not held
    assert for_each([], read, work, write) == 0


# --- how it computes -----------------------------------------------------------------------------------


def test_options_reach_the_upscaler(tmp_path, dan_fast, tiny_weights):
    image(tmp_path / "a.png", size=(150, 30))
    pixels = read_image(tmp_path / "a.png").rgb
    model = load(tiny_weights)
    for options, arguments in [
        ({"tile": 32, "halo": 3}, ["--tile", 32, "--halo", 3]), ({"kernel_from": "crop"}, ["--kernel-from", "crop"]),
        ({"iterations": 2}, ["--iterations", 2]), ({"tolerance": 2.0}, ["--tolerance", 2]),
        ({"dtype": torch.bfloat16}, ["--dtype", "bf16"]), ({"ensemble": True}, ["--ensemble"]),
        ({"strength": 0.4}, ["--strength", "0.4"]), ({"blur": 0.8}, ["--blur", "0.8x"]),
        ({"blur": 1.5}, ["--blur", 1.5]),
    ]:
        assert dan_fast("upscale", tmp_path / "a.png", "-o", tmp_path / "out", *arguments) == 0
        expected = Upscaler(model, **options)(pixels).image
        assert np.array_equal(read_image(tmp_path / "out" / "a_x4.png").rgb, expected)


def test_a_known_kernel(tmp_path, dan_fast, tiny_weights):
    image(tmp_path / "a.png")
    kernel = np.zeros((5, 5), np.float32)
    kernel[2, 1:4] = 1 / 3
    np.save(tmp_path / "kernel.npy", kernel)
    assert dan_fast("upscale", tmp_path / "a.png", "-o", tmp_path / "out", "--kernel", tmp_path / "kernel.npy",
                    "--save-kernel") == 0
    expected = Upscaler(load(tiny_weights))(read_image(tmp_path / "a.png").rgb, kernel=kernel)
    assert np.array_equal(read_image(tmp_path / "out" / "a_x4.png").rgb, expected.image)
    assert np.array_equal(np.load(tmp_path / "out" / "a_x4_kernel.npy"), expected.kernel)


def test_a_known_kernel_that_is_not_centred(tmp_path, dan_fast, tiny_weights, capsys):
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    kernel = np.zeros((8, 8), np.float32)
    kernel[2, 5:8] = 1 / 3
    np.save(tmp_path / "kernel.npy", kernel)
    assert dan_fast("upscale", tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out",
                    "--kernel", tmp_path / "kernel.npy", "--save-kernel") == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "centre of mass" in line]
    assert said == [f"{tmp_path / 'kernel.npy'}: its centre of mass lies 2.0 pixels up and 2.0 pixels right of its "
                    "middle: centred, and the results moved back"]
    expected = Upscaler(load(tiny_weights))(read_image(tmp_path / "a.png").rgb, kernel=kernel)
    assert np.array_equal(read_image(tmp_path / "out" / "a_x4.png").rgb, expected.image)
    assert np.array_equal(np.load(tmp_path / "out" / "a_x4_kernel.npy"), expected.kernel)


def test_kernel_command_says_where_an_estimate_is_not_centred(tmp_path, tiny_weights, capsys):
    image(tmp_path / "a.png")
    for shift, said in ((3, "; its centre of mass lies 3.0 pixels down of its middle"), (0, "degrees")):
        model = load(tiny_weights)
        with torch.no_grad():
            rows, columns = torch.meshgrid(*[torch.arange(21.0) - 10] * 2, indexing="ij")
            model.Estimator.tail[2].weight.zero_()
            model.Estimator.tail[2].bias.copy_((-((rows - shift) ** 2 + columns**2)).flatten())
        save(model, tmp_path / "shifts.safetensors")
        assert main(["kernel", str(tmp_path / "a.png"), "--weights", str(tmp_path / "shifts.safetensors")]) == 0
        assert capsys.readouterr().out.rstrip().endswith(said)


@pytest.mark.parametrize("write", [
    lambda path: None, lambda path: path.write_bytes(b"no array"), lambda path: path.write_bytes(b""),
    lambda path: np.save(path, np.ones((3, 3))), lambda path: np.save(path, np.ones((2, 3)) / 6),
    lambda path: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
    lambda path: path.write_bytes(bytes(2 << 20)),
    lambda path: path.write_bytes(np.lib.format.magic(1, 0) + b"v\0{'descr': '<f8', 'fortran_order': False, "
                                  b"'shape': (1000000, 1000000), }" + b" " * 41 + b"\n")])
def test_a_file_that_is_not_a_kernel_exits_with_2(tmp_path, dan_fast, capsys, write):
    image(tmp_path / "a.png")
    write(tmp_path / "kernel.npy")
    assert dan_fast("upscale", tmp_path / "a.png", "-o", tmp_path / "out", "--kernel", tmp_path / "kernel.npy") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("photos, broken", [(1, 0), (12, 0), (3, 2), (0, 1)])
def test_timing_adds_up(tmp_path, dan_fast, capsys, photos, broken):
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(photos):
        image(folder / f"{n}.png")
    for n in range(broken):
        (folder / f"broken{n}.png").write_bytes(b"no image")
    assert dan_fast("upscale", folder, "-o", tmp_path / "out", "--timing") == (1 if broken else 0)
    table = capsys.readouterr().out.split("upscaled into")[1].partition("at the same time:")
    rows = re.findall(r"^ *(\S.*?)  +([\d.-]+) s +([\d.-]+) %$", table[0], re.M)
    *parts, total = [(name, float(seconds), float(share)) for name, seconds, share in rows]
    assert total[0] == "total" and total[2] == 100
    assert all(seconds >= 0 and share >= 0 for _, seconds, share in parts)
    assert round(sum(share for _, _, share in parts), 6) == 100
    assert sum(seconds for _, seconds, _ in parts) == pytest.approx(total[1], abs=0.001 * len(parts))
    assert ("body" in [name for name, _, _ in parts]) == (photos > 0)
    assert re.search(r"reading +[\d.]+ s$", table[2], re.M)


# --- no photo is overwritten ---------------------------------------------------------------------------


def test_the_photos_own_folder_is_fine(tmp_path, dan_fast):
    before = image(tmp_path / "a.png").read_bytes()
    assert dan_fast("upscale", tmp_path / "a.png", "-o", tmp_path) == 0
    assert names(tmp_path) == ["a.png", "a_x4.png"] and (tmp_path / "a.png").read_bytes() == before


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_never_overwrites_a_photo(tmp_path, dan_fast, capsys, link):
    image(tmp_path / "a.png")
    if link is None:
        image(tmp_path / "a_x4.png")
    else:
        image(tmp_path / "other" / "b.png")
        link(tmp_path / "other" / "b.png", tmp_path / "a_x4.png")
    before = contents(tmp_path)
    photos = [tmp_path] if link is None else [tmp_path / "a.png", tmp_path / "other"]
    assert dan_fast("upscale", *photos, "-o", tmp_path) == 2
    assert contents(tmp_path) == before and "a_x4.png" in capsys.readouterr().err


def test_never_overwrites_a_photo_through_a_linked_folder(tmp_path, dan_fast):
    image(tmp_path / "in" / "a.png")
    image(tmp_path / "in" / "a_x4.png")
    (tmp_path / "out").symlink_to(tmp_path / "in")
    before = contents(tmp_path)
    assert dan_fast("upscale", tmp_path / "in", "-o", tmp_path / "out") == 2
    assert contents(tmp_path) == before


def test_never_overwrites_a_photo_with_a_kernel_or_comparison(tmp_path, dan_fast):
    for name in ("a.png", "a_x4_kernel.png", "a_x4_compare.png"):
        image(tmp_path / name)
    for option in ("--save-kernel", "--compare"):
        assert dan_fast("upscale", tmp_path, "-o", tmp_path, option) == 2
    image(tmp_path / "a_kernel.png")
    assert dan_fast("kernel", tmp_path, "-o", tmp_path) == 2


def test_photos_that_differ_in_suffix_do_not_share_a_name(tmp_path, dan_fast):
    for name in ("in/a.png", "in/A.jpg", "in/b.png"):
        image(tmp_path / name)
    assert dan_fast("upscale", tmp_path / "in", "-o", tmp_path / "out", "--format", "png") == 0
    assert names(tmp_path / "out") == ["A_jpg_x4.png", "a_png_x4.png", "b_x4.png"]


def test_photos_of_one_name_from_two_folders_are_refused(tmp_path):
    for name in ("one/a.png", "two/a.png"):
        image(tmp_path / name)
    with pytest.raises(DanFastError, match="both become"):
        find_jobs([tmp_path / "one", tmp_path / "two"], tmp_path / "out")


def test_a_photo_given_twice_is_done_once(tmp_path):
    image(tmp_path / "a.png")
    assert len(find_jobs([tmp_path, tmp_path / "a.png", tmp_path], tmp_path / "out")) == 1


# --- failures --------------------------------------------------------------------------------------------


def test_a_broken_file_is_reported_and_the_rest_done(tmp_path, dan_fast, capsys):
    image(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"broken")
    image(tmp_path / "in" / "c.png")
    assert dan_fast("upscale", tmp_path / "in", "-o", tmp_path / "out") == 1
    assert names(tmp_path / "out") == ["a_x4.png", "c_x4.png"]
    captured = capsys.readouterr()
    assert captured.err.count("b.png") == 1 and "Traceback" not in captured.err and "2 of 3" in captured.out


def test_everything_broken_is_1(tmp_path, dan_fast):
    (tmp_path / "b.png").write_bytes(b"broken")
    assert dan_fast("upscale", tmp_path / "b.png", "-o", tmp_path / "out") == 1


@pytest.mark.parametrize("arguments", [
    ["nowhere.png", "-o", "out"],
    ["empty", "-o", "out"],
    ["a.png", "-o", "a.png"],
    ["a.png", "-o", "a.png/below"],
    ["a.png", "-o", "out", "--device", "nonsense"],
])
def test_bad_paths_exit_with_2_and_one_line(tmp_path, monkeypatch, tiny_weights, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    assert main(["upscale", "--weights", str(tiny_weights), *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "out").exists()


def test_bad_weights_exit_with_2(tmp_path, capsys):
    image(tmp_path / "a.png")
    for weights in (tmp_path / "a.png", "no-such-weights"):
        assert main(["upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--weights", str(weights)]) == 2
    assert not (tmp_path / "out").exists() and "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--tile", "0"], ["--tile", "x"], ["--quality", "101"], ["--quality", "0"],
                                    ["--iterations", "0"], ["--format", "gif"], ["--halo", "-1"],
                                    ["--dtype", "int8"], ["--tolerance", "-1"], ["--tolerance", "x"],
                                    ["--kernel-from", "x"]])
def test_bad_option_values_exit_with_2(tmp_path, dan_fast, option):
    image(tmp_path / "a.png")
    with pytest.raises(SystemExit) as error:
        dan_fast("upscale", tmp_path / "a.png", "-o", tmp_path / "out", *option)
    assert error.value.code == 2


def test_too_large_for_the_format_fails_before_the_work(tmp_path, dan_fast, capsys):
    image(tmp_path / "a.png", size=(1, 4096))
    assert dan_fast("upscale", tmp_path / "a.png", "-o", tmp_path / "out", "--format", "webp") == 1
    assert "16383" in capsys.readouterr().err


def test_an_interrupt_leaves_complete_files_only(tmp_path, dan_fast, monkeypatch):
    for name in ("in/a.png", "in/b.png"):
        image(tmp_path / name)
    read = upscaling.read_image

    def interrupted(path):
        if path.name == "b.png":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(upscaling, "read_image", interrupted)
    assert dan_fast("upscale", tmp_path / "in", "-o", tmp_path / "out") == 130
    assert names(tmp_path / "out") == ["a_x4.png"]
    assert read_image(tmp_path / "out" / "a_x4.png").rgb.shape == (48, 40, 3)


def test_too_little_memory_is_reported(tmp_path, capsys):
    def starve(*_):
        raise MemoryError

    jobs = [Job(tmp_path / "a.png", tmp_path / "out")]
    assert for_each(jobs, starve, lambda *_: None, lambda *_: None) == 1
    assert for_each(jobs, lambda _: None, starve, lambda *_: None) == 1
    assert for_each(jobs, lambda _: None, lambda *_: None, starve) == 1
    assert "a.png: not enough memory" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["upscale", "kernel"])
def test_help_gives_the_defaults(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0 and "(default: default)" in text and "(default: auto)" in text
