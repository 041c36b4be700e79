"""``dan-fast score``: its table, its files, and what it refuses."""

import csv

import numpy as np
import pytest
from support.image_pairs import write_pair
from support.image_sets import write_random
from support.json_output import objects

from dan_fast.cli import main
from dan_fast.image_files import read_image


@pytest.fixture
def folders(tmp_path, upscale):
    """The arguments that compare what upscale wrote with what it should be."""
    for number, name in enumerate(("a", "b c")):
        write_pair(tmp_path, f"lr/{name}.png", f"hr/{name}.png", seed=number)
    assert upscale(tmp_path / "lr", "-o", tmp_path / "sr", "--compare", "--save-kernel", "--quiet") == 0
    return [str(tmp_path / "sr"), "--against", str(tmp_path / "hr")]


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_table_and_files(folders, tmp_path, capsys):
    capsys.readouterr()
    assert main(["score", *folders, "--csv", str(tmp_path / "out" / "s.csv"), "--worst",
                 str(tmp_path / "out" / "w.png")]) == 0
    lines = [line.rsplit(maxsplit=4) for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["image", "a_x4.png", "b c_x4.png", "mean"]
    assert lines[0][1:] == ["PSNR-Y", "SSIM-Y", "PSNR-RGB", "SSIM-RGB"]
    for line, row in zip(lines[1:], read_csv(tmp_path / "out" / "s.csv"), strict=True):
        assert row["image"] == line[0]
        for text, name in zip(line[1:], ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"), strict=True):
            assert float(text) == pytest.approx(float(row[name]), abs=0.006)
    height, width, _ = read_image(tmp_path / "out" / "w.png").rgb.shape
    assert height > 2 * 48 and width > 2 * 40


def test_it_agrees_with_evaluate(tiny_weights, folders, tmp_path):
    assert main(["evaluate", str(tiny_weights), "--lr", str(tmp_path / "lr"), "--hr", str(tmp_path / "hr"),
                 "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert main(["score", *folders, "--csv", str(tmp_path / "s.csv"), "--quiet"]) == 0
    for one, other in zip(read_csv(tmp_path / "s.csv"), read_csv(tmp_path / "out" / "evaluation.csv"), strict=False):
        for name in ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"):
            assert one[name] == other[name]


def test_crop(folders, tmp_path):
    for name, options in (("default", []), ("4", ["--crop", "4"]), ("0", ["--crop", "0"])):
        assert main(["score", *folders, *options, "--csv", str(tmp_path / name), "--quiet"]) == 0
    assert (tmp_path / "default").read_bytes() == (tmp_path / "4").read_bytes() != (tmp_path / "0").read_bytes()


def test_json(folders, tmp_path, capsys):
    write_random(tmp_path / "hr" / "alone.png")
    write_random(tmp_path / "hr" / "same.png")
    write_random(tmp_path / "sr" / "same.png")
    capsys.readouterr()
    assert main(["score", *folders, "--json"]) == 1
    printed = capsys.readouterr()
    line, = objects(printed.out)
    assert line["crop_pixels"] == 4 and [image["image"] for image in line["images"]] == [
        "a_x4.png", "b c_x4.png", "same.png"]
    assert line["images"][2]["psnr_y_db"] is None and line["mean_psnr_y_db"] is None  # infinite
    assert line["mean_ssim_y"] == pytest.approx(np.mean([image["ssim_y"] for image in line["images"]]))
    assert len(line["skipped"]) == 1 and printed.err == f"skipped: {line['skipped'][0]}\n"


def test_what_cannot_be_compared_is_reported_and_the_rest_is_done(folders, tmp_path, capsys):
    write_random(tmp_path / "sr" / "alone.png")
    write_random(tmp_path / "hr" / "wide.png", 50, 40)
    write_random(tmp_path / "sr" / "wide_x4.png", 50, 44)
    write_random(tmp_path / "hr" / "broken.png")
    (tmp_path / "sr" / "broken_x4.png").write_bytes(b"no image")
    capsys.readouterr()
    assert main(["score", *folders]) == 1
    printed = capsys.readouterr()
    assert [line.split("  ")[0].strip() for line in printed.out.splitlines()] == [
        "image", "a_x4.png", "b c_x4.png", "mean"]
    for name, reason in (("alone.png", "has no partner"), ("wide_x4.png", "expected images of one size"),
                         ("broken_x4.png", "not a readable")):
        assert f"skipped: {tmp_path / 'sr' / name}" in printed.err and reason in printed.err


def test_nothing_to_compare_is_exit_code_2(folders, tmp_path, capsys):
    for path in (tmp_path / "hr").iterdir():
        path.rename(path.with_name(f"other {path.name}"))
    for options in ([], ["--json"]):
        capsys.readouterr()
        assert main(["score", *folders, *options, "--csv", str(tmp_path / "s.csv"), "--worst",
                     str(tmp_path / "w.png")]) == 2
        printed = capsys.readouterr()
        assert not printed.out and "could be compared with one of" in printed.err.splitlines()[-1]
        assert not (tmp_path / "s.csv").exists() and not (tmp_path / "w.png").exists()


def test_bad_input_is_one_line_and_exit_code_2(folders, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    sr, _, hr = folders
    for arguments, message in [
        ([sr, "--against", str(tmp_path / "empty")], "holds no image"),
        ([str(tmp_path / "missing"), "--against", hr], "no such file or folder"),
        ([sr, "--against", sr], "are one folder"),
        ([*folders, "--worst", str(tmp_path / "sheet.gif")], "cannot write .gif"),
        ([*folders, "--worst", f"{hr}/a.png"], "whose images are compared"),
        ([*folders, "--worst", f"{sr}/new/worst.png"], "whose images are compared"),
        ([*folders, "--csv", f"{sr}/a_x4.png"], "--csv"),
        ([*folders, "--csv", str(tmp_path / "file" / "s.csv")], "cannot write to this folder"),
        ([*folders, "--quiet"], "give --csv FILE or --json"),
    ]:
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        assert main(["score", *arguments]) == 2, arguments
        errors = capsys.readouterr().err
        assert message in errors and errors.count("\n") == 1, arguments
        assert sorted(tmp_path.rglob("*")) == before


def test_the_table_may_lie_among_the_results(folders, tmp_path):
    for _ in range(2):
        assert main(["score", *folders, "--quiet", "--csv", str(tmp_path / "sr" / "scores.csv")]) == 0
    assert len(read_csv(tmp_path / "sr" / "scores.csv")) == 3


def test_quiet(folders, tmp_path, capsys):
    capsys.readouterr()
    assert main(["score", *folders, "--quiet", "--csv", str(tmp_path / "s.csv")]) == 0
    assert capsys.readouterr() == ("", "")
    assert len(read_csv(tmp_path / "s.csv")) == 3
