import csv

import numpy as np
import pytest
from support.image_pairs import tool, write_pair
from support.json_output import objects

from dan_fast.cli import main
from dan_fast.evaluation.summary import OF_KERNELS
from dan_fast.image_files import read_image, write_image


def write_random(path, height=48, width=40, seed=0):
    write_image(path, np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture
def data(tmp_path):
    for i in range(2):
        write_random(tmp_path / "data" / f"{i}.png", seed=i)
    return tmp_path / "data"


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_table_and_files(tiny_weights, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", str(tiny_weights), "--data", str(data), "--out", str(out), "--pictures"]) == 0
    printed = capsys.readouterr().out
    assert "data: 2 images" in printed
    assert all(f" {sigma} " in printed for sigma in ("1.80", "3.20", "mean"))
    rows = read_csv(out / "evaluation.csv")
    assert [(row["image"], row["kernel"]) for row in rows] == [(f"{i}.png", str(k)) for i in range(2) for k in range(8)]
    summary = read_csv(out / "summary.csv")
    assert [row["sigma"] for row in summary][::8] == ["1.80", "mean"]
    column = [float(row["psnr_y"]) for row in rows]
    assert float(summary[-1]["psnr_y"]) == pytest.approx(np.mean(column), abs=1e-5)
    pictures = sorted((out / "pictures" / "data").iterdir())
    assert [path.name for path in pictures][:2] == ["0_0.png", "0_1.png"]
    assert len(pictures) == 16
    assert read_image(pictures[0]).rgb.shape[1] > 3 * 40


@pytest.mark.parametrize("protocol", ["gaussian8", "irregular"])
def test_the_same_file_every_time(tiny_weights, data, tmp_path, protocol):
    for out in ("a", "b"):
        assert main(["evaluate", str(tiny_weights), "--data", str(data), "--protocol", protocol, "--limit", "1",
                     "--out", str(tmp_path / out)]) == 0
    assert (tmp_path / "a" / "evaluation.csv").read_bytes() == (tmp_path / "b" / "evaluation.csv").read_bytes()


def test_sub_folders_are_sets_of_their_own(tiny_weights, data, tmp_path, capsys):
    write_random(tmp_path / "sets" / "one" / "x.png")
    write_random(tmp_path / "sets" / "data" / "x.png")
    assert main(["evaluate", str(tiny_weights), "--data", str(tmp_path / "sets"), str(data),
                 "--protocol", "irregular", "--out", str(tmp_path / "out")]) == 0
    # Two folders are called "data", so their sets are named by the paths.
    assert {row["set"] for row in read_csv(tmp_path / "out" / "evaluation.csv")} == {
        "one", str(tmp_path / "sets" / "data"), str(data)}


def test_unusable_images_are_reported_and_the_rest_is_measured(tiny_weights, data, tmp_path, capsys):
    (data / "broken.png").write_bytes(b"no image")
    write_random(data / "small.png", 16, 16)
    assert main(["evaluate", str(tiny_weights), "--data", str(data), "--out", str(tmp_path / "out")]) == 1
    errors = capsys.readouterr().err
    assert "broken.png" in errors
    assert "small.png" in errors
    assert len(read_csv(tmp_path / "out" / "evaluation.csv")) == 16


def test_nothing_to_measure(tiny_weights, tmp_path, capsys):
    write_random(tmp_path / "data" / "small.png", 16, 16)
    assert main(["evaluate", str(tiny_weights), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 1
    assert "no image could be measured" in capsys.readouterr().out
    assert read_csv(tmp_path / "out" / "summary.csv") == []


def test_bad_input_is_one_line_and_exit_code_2(tiny_weights, data, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    for arguments, message in [
        ([tiny_weights, "--data", tmp_path / "empty"], "no image"),
        ([tiny_weights, "--data", tmp_path / "missing"], "missing"),
        ([tmp_path / "file", "--data", data], "cannot be read as weights"),
        ([tiny_weights, "--data", data, "--pictures"], "--out"),
        ([tiny_weights, "--data", data, "--out", tmp_path / "file"], "cannot write"),
    ]:
        assert main(["evaluate", *map(str, arguments)]) == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert errors.count("\n") == 1


def test_kernels_from_files(tiny_weights, data, tmp_path, capsys):
    kernels = np.random.default_rng(0).random((2, 9, 9))
    np.save(tmp_path / "two.npy", kernels)
    np.save(tmp_path / "one.npy", np.ones((5, 5)))
    common = ["evaluate", str(tiny_weights), "--data", str(data), "--protocol", "file"]
    assert main([*common, "--kernels", str(tmp_path / "two.npy"), str(tmp_path / "one.npy"),
                 "--out", str(tmp_path / "out")]) == 0
    assert [row["kernel"] for row in read_csv(tmp_path / "out" / "evaluation.csv")] == ["0", "1", "2"] * 2
    assert [row["sigma"] for row in read_csv(tmp_path / "out" / "summary.csv")] == ["#0", "#1", "#2", "mean"]
    assert main([*common, "--kernels", str(tmp_path / "one.npy"), "--out", str(tmp_path / "alone")]) == 0
    assert [row["psnr_y"] for row in read_csv(tmp_path / "alone" / "evaluation.csv")] == [
        row["psnr_y"] for row in read_csv(tmp_path / "out" / "evaluation.csv") if row["kernel"] == "2"]
    capsys.readouterr()
    for arguments in (common, [*common[:-2], "--kernels", str(tmp_path / "one.npy")],
                      [*common, "--kernels", str(tmp_path / "missing.npy")]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_kernels_that_shift(tiny_weights, data, tmp_path, capsys):
    kernels = np.zeros((2, 9, 9))
    kernels[0, 4, 4] = kernels[1, 6, 1] = 1
    np.save(tmp_path / "kernels.npy", kernels)
    common = ["evaluate", str(tiny_weights), "--data", str(data), "--out", str(tmp_path / "out"), "--protocol"]
    assert main([*common, "file", "--kernels", str(tmp_path / "kernels.npy")]) == 0
    first, second = capsys.readouterr().out.split("without the shift of the kernels (pixels down, right)")
    assert second.splitlines()[1].split()[:3] == ["sigma", "down", "right"]
    assert [line.split()[:3] for line in second.splitlines()[2:5]] == [
        ["#0", "0.0", "0.0"], ["#1", "2.0", "-3.0"], ["mean", "1.0", "-1.5"]]
    for table in (first.splitlines()[1:], second.splitlines()[1:5]):
        assert len({len(line.rstrip()) for line in table}) == 1
    rows = read_csv(tmp_path / "out" / "evaluation.csv")
    assert [(row["shift_down"], row["shift_right"]) for row in rows] == [("0.000000", "0.000000"),
                                                                         ("2.000000", "-3.000000")] * 2
    assert all((row["psnr_y"] == row["aligned_psnr_y"]) == (row["kernel"] == "0") for row in rows)
    assert list(rows[0])[-1] == "aligned_kernel_error"  # new columns are the last, for readers of older files
    summary = read_csv(tmp_path / "out" / "summary.csv")
    assert list(summary[0])[-1] == "aligned_kernel_error" and summary[1]["shift_right"] == "-3.000000"
    # Kernels that shift nothing need no second table.
    assert main([*common, "irregular"]) == 0
    assert "without the shift" not in capsys.readouterr().out


def test_a_kernel_whose_centre_lies_outside(tiny_weights, data, tmp_path, capsys):
    np.save(tmp_path / "kernel.npy", np.diag([20.0, 0, -19]))
    assert main(["evaluate", str(tiny_weights), "--data", str(data), "--protocol", "file",
                 "--kernels", str(tmp_path / "kernel.npy")]) == 2
    errors = capsys.readouterr().err
    assert "kernel.npy, kernel 0: " in errors and "centre of mass lies outside" in errors


def test_json_is_the_summary(tiny_weights, data, tmp_path, capsys):
    (data / "broken.png").write_bytes(b"no image")
    write_random(tmp_path / "sets" / "only" / "small.png", 16, 16)
    write_random(tmp_path / "sets" / "other" / "x.png")
    assert main(["evaluate", str(tiny_weights), "--data", str(data), str(tmp_path / "sets"), "--json",
                 "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    lines = objects(printed.out)
    assert [(line["set"], line["images"]) for line in lines] == [("data", 2)] * 9 + [("only", 0)] + [("other", 1)] * 9
    assert [line["sigma_pixels"] for line in lines[:9]][::8] == [1.8, None]
    measured = [line for line in lines if line["cases"]]
    for line, row in zip(measured, read_csv(tmp_path / "out" / "summary.csv"), strict=True):
        assert line["cases"] == int(row["cases"])
        for name, expected in list(row.items())[3:]:
            name += "_db" if "psnr" in name else "_pixels" if name.startswith("shift_") else ""
            assert line[name] == pytest.approx(float(expected), abs=1e-6), name
    empty = lines[9]
    assert empty["cases"] == 0 and empty["psnr_y_db"] is None and "small.png" in empty["skipped"][0]
    assert all(len(line["skipped"]) == (0 if line["set"] == "other" else 1) for line in lines)
    assert printed.err.count("\n") == 2  # the two that were skipped, and no bar


def test_json_names_kernels_without_a_sigma(tiny_weights, data, tmp_path, capsys):
    np.save(tmp_path / "kernels.npy", np.random.default_rng(0).random((2, 9, 9)))
    assert main(["evaluate", str(tiny_weights), "--data", str(data), "--protocol", "file", "--json",
                 "--kernels", str(tmp_path / "kernels.npy")]) == 0
    lines = objects(capsys.readouterr().out)
    assert [line["kernel_index"] for line in lines] == [0, 1, None]
    assert [line["sigma_pixels"] for line in lines] == [None] * 3


def test_quiet_writes_the_files_and_prints_nothing(tiny_weights, data, tmp_path, capsys):
    common = ["evaluate", str(tiny_weights), "--data", str(data), "--protocol", "irregular", "--quiet"]
    assert main([*common, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr() == ("", "")
    assert len(read_csv(tmp_path / "out" / "summary.csv")) == 1
    assert main(common) == 2
    assert "give --out DIR or --json" in capsys.readouterr().err


@pytest.fixture
def pairs(tmp_path):
    """The options for three pairs of images, named as DIV2KRK and RealSR name them."""
    for number, (low, sharp) in enumerate((("im_1", "img_1"), ("Canon_001_LR4", "Canon_001_HR"), ("bx4", "b"))):
        write_pair(tmp_path, f"lr x4/{low}.png", f"hr/{sharp}.png", seed=number)
    return ["--lr", str(tmp_path / "lr x4"), "--hr", str(tmp_path / "hr")]


def write_kernels(folder, names=("kernel_1", "Canon_001", "b"), shift=0):
    folder.mkdir()
    for name in names:
        np.save(folder / f"{name}.npy", np.roll(np.pad(np.outer(np.hanning(13), np.hanning(13)), 4), shift, 1))
    return ["--true-kernels", str(folder)]


def test_pairs(tiny_weights, pairs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", str(tiny_weights), *pairs, "--out", str(out), "--pictures"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("lr x4: 3 images") and "DAN PSNR-Y" in printed and "kernel" not in printed
    rows = read_csv(out / "evaluation.csv")
    assert [(row["set"], row["image"]) for row in rows] == [
        ("lr x4", name) for name in ("Canon_001_HR.png", "b.png", "img_1.png")]
    summary, = read_csv(out / "summary.csv")
    for line in (*rows, summary):  # what needs the true kernel is empty, not zero
        assert {name for name, value in line.items() if value == ""} - {"sigma"} == set(OF_KERNELS)
    assert float(summary["psnr_y"]) == pytest.approx(np.mean([float(row["psnr_y"]) for row in rows]), abs=1e-5)
    pictures = sorted(path.name for path in (out / "pictures" / "lr x4").iterdir())
    assert pictures == ["Canon_001_HR.png", "b.png", "img_1.png"]
    # Bicubic, the result, the sharp image and the estimated kernel, but no true one.
    assert 3 * 40 + 168 < read_image(out / "pictures" / "lr x4" / "b.png").rgb.shape[1] < 3 * 40 + 2 * 168


def test_pairs_with_their_kernels(tiny_weights, pairs, tmp_path, capsys):
    kernels = write_kernels(tmp_path / "k", shift=2)
    assert main(["evaluate", str(tiny_weights), *pairs, *kernels, "--limit", "2", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "kernel error" in printed and "kernels centred, images as they are" in printed
    assert printed.splitlines()[-3].split() == ["sigma", "down", "right", "kernel", "error"]
    rows = read_csv(tmp_path / "out" / "evaluation.csv")
    assert len(rows) == 2
    for row in rows:
        assert [name for name, value in row.items() if value == ""] == ["sigma"]
        assert float(row["shift_right"]) == 2 and row["psnr_y"] == row["aligned_psnr_y"]
        assert 0 < float(row["aligned_kernel_error"]) <= 2 and float(row["kernel_error"]) > 0


def test_pairs_measure_what_degraded_images_measure(tiny_weights, data, tmp_path, capsys):
    """What degrade writes and evaluate --lr reads gives the figures of evaluate --data."""
    testset = tmp_path / "testset"
    assert main(["degrade", str(data), "-o", str(testset), "--protocol", "irregular", "--save-hr"]) == 0
    common = ["evaluate", str(tiny_weights), "--out"]
    assert main([*common, str(tmp_path / "a"), "--data", str(data), "--protocol", "irregular"]) == 0
    assert main([*common, str(tmp_path / "b"), "--lr", str(testset / "lr"), "--hr", str(testset / "hr"),
                 "--true-kernels", str(testset / "kernel")]) == 0
    a, b = (read_csv(tmp_path / name / "evaluation.csv") for name in "ab")
    for name in ("image", "psnr_y", "ssim_rgb", "bicubic_psnr_rgb", "kernel_error", "kernel_psnr", "shift_right"):
        assert [row[name] for row in a] == [row[name] for row in b], name


def test_pairs_that_cannot_be_used_are_reported_and_skipped(tiny_weights, pairs, tmp_path, capsys):
    write_random(tmp_path / "hr" / "alone.png")
    write_pair(tmp_path, "lr x4/cut.png", "hr/cut.png", spare=4)
    (tmp_path / "hr" / "b.png").write_bytes(b"no image")
    assert main(["evaluate", str(tiny_weights), *pairs, "--json"]) == 1
    printed = capsys.readouterr()
    line, = objects(printed.out)
    assert line["images"] == line["cases"] == 2 and len(line["skipped"]) == 3
    assert all(line[name] is None for name in ("kernel_error", "kernel_psnr_db", "shift_down_pixels", "sigma_pixels",
                                               "aligned_psnr_y_db", "aligned_kernel_error"))
    assert line["psnr_y_db"] > 0
    assert printed.err.count("\n") == 3
    for name, reason in (("hr/alone.png", "has no partner"), ("hr/cut.png", "expected 4 times"),
                         ("hr/b.png", "not a readable")):
        assert f"skipped: {tmp_path / name}" in printed.err and reason in printed.err


def test_no_pair_can_be_used(tiny_weights, pairs, tmp_path, capsys):
    for path in (tmp_path / "hr").iterdir():
        path.rename(path.with_name(f"other {path.name}"))
    assert main(["evaluate", str(tiny_weights), *pairs]) == 1
    printed = capsys.readouterr()
    assert "no image could be measured" in printed.out and printed.err.count("has no partner") == 6


def upscaler(folder, name):
    return ["--upscaler", f"command:{tool(folder, name)}", "--scale", "4"]


def test_another_program(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", *upscaler(tmp_path, "good"), "--data", str(data), "--protocol", "irregular",
                 "--out", str(out), "--pictures"]) == 0
    printed = capsys.readouterr().out
    assert "good PSNR-Y" in printed and "DAN" not in printed and "kernel" not in printed
    for line in (*read_csv(out / "evaluation.csv"), *read_csv(out / "summary.csv")):
        assert {name for name, value in line.items() if value == ""} - {"sigma"} == {
            "kernel_error", "kernel_psnr", "aligned_kernel_error"}
        # Pillow's bicubic is MATLAB's, but for the rounding of each pass.
        assert float(line["psnr_y"]) == pytest.approx(float(line["bicubic_psnr_y"]), abs=0.2)
    assert len(list((out / "pictures" / "data").iterdir())) == 2


def test_another_program_on_pairs_with_kernels(pairs, tmp_path, capsys):
    kernels = write_kernels(tmp_path / "k")
    assert main(["evaluate", *upscaler(tmp_path, "good"), *pairs, *kernels, "--json"]) == 0
    line, = objects(capsys.readouterr().out)
    assert line["cases"] == 3 and line["kernel_error"] is None and line["shift_down_pixels"] == 0


@pytest.mark.parametrize(("name", "reason"), [
    ("failing", "failing ended with exit code 3: no such model: x"), ("silent", "silent wrote no image"),
    ("small", "small wrote 5x7 pixels, expected 40x48"),
    ("hanging", "hanging took more than 1.5 s and was stopped: waiting for a licence")])
def test_a_program_that_fails_is_reported(pairs, tmp_path, capsys, name, reason):
    assert main(["evaluate", *upscaler(tmp_path, name), *pairs, "--limit", "1", "--timeout",
                 "1.5" if name == "hanging" else "60"]) == 1
    printed = capsys.readouterr()
    assert f"skipped: Canon_001_HR.png: {reason}" in printed.err
    assert "no image could be measured" in printed.out


def test_images_that_a_program_takes_are_measured(tmp_path, capsys):
    write_pair(tmp_path, "lr/a.png", "hr/a.png")  # 12 pixels high
    write_pair(tmp_path, "lr/b.png", "hr/b.png", height=60)
    assert main(["evaluate", *upscaler(tmp_path, "choosy"), "--lr", str(tmp_path / "lr"), "--hr", str(tmp_path / "hr"),
                 "--out", str(tmp_path / "out"), "--quiet"]) == 1
    assert [row["image"] for row in read_csv(tmp_path / "out" / "evaluation.csv")] == ["b.png"]
    assert "skipped: a.png: choosy ended with exit code 1: 12 is too low" in capsys.readouterr().err


def test_contradictions_are_one_line_and_exit_code_2(tiny_weights, data, pairs, tmp_path, capsys):
    weights, data = str(tiny_weights), ["--data", str(data)]
    command = upscaler(tmp_path, "good")
    np.save(tmp_path / "k.npy", np.ones((5, 5)))
    for arguments, message in [
        ([weights], "there is nothing to measure with"),
        ([weights, *pairs, *data], "leave out --data"),
        ([weights, *pairs, "--protocol", "gaussian8"], "leave out --data, --protocol"),
        ([weights, *pairs, "--protocol", "file", "--kernels", str(tmp_path / "k.npy")], "leave out --data"),
        ([weights, *pairs[:2]], "--lr DIR and --hr DIR need each other"),
        ([weights, *pairs[2:], *data], "--lr DIR and --hr DIR need each other"),
        ([weights, *data, "--true-kernels", str(tmp_path)], "--true-kernels are those of pairs"),
        ([weights, *pairs, "--true-kernels", str(tmp_path / "hr")], "holds no kernel"),
        ([weights, *data, *command], "two upscalers"),
        (data, "name weights"),
        ([*data, *command[:2]], "needs --scale"),
        ([weights, *data, "--scale", "4"], "--scale is for --upscaler"),
        ([weights, *data, "--timeout", "4"], "--timeout is for --upscaler"),
        ([*data, "--scale", "4", "--upscaler", "tool {in} {out}"], "expected command:"),
        ([*data, "--scale", "4", "--upscaler", "command:tool {in}"], "lacks {out}"),
        ([*data, "--scale", "4", "--upscaler", "command:no-such-tool {in} {out}"], "there is no program"),
        ([*data, *command, "--ensemble"], "--ensemble is for a network, which --upscaler is not"),
        ([*data, *command, "--kernel-from", "crop"], "--kernel-from is for a network"),
        ([*data, *command, "--iterations", "2"], "--iterations is for a network"),
    ]:
        assert main(["evaluate", *arguments, "--out", str(tmp_path / "out")]) == 2, arguments
        errors = capsys.readouterr().err
        assert message in errors and errors.count("\n") == 1, arguments
        assert not (tmp_path / "out").exists()
