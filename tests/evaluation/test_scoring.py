"""Two folders of images compared."""

import csv
import math

import numpy as np
import pytest
from support.image_pairs import write_pair, write_result
from support.image_sets import write_random

from dan_fast.errors import DanFastError, ImageError
from dan_fast.evaluation.metrics import psnr, ssim
from dan_fast.evaluation.scoring import Score, WorstSheet, mean_score, score_folders, write_scores
from dan_fast.image_files import read_image, write_image


@pytest.fixture
def folders(tmp_path):
    for number in range(3):
        write_pair(tmp_path, f"lr/{number}.png", f"hr/{number}.png", seed=number)
        write_result(tmp_path, f"lr/{number}.png", f"sr/{number}_x4.png")
    return tmp_path / "sr", tmp_path / "hr"


@pytest.mark.parametrize("crop", [0, 4, 7])
def test_measures(folders, crop):
    scores = score_folders(*folders, crop=crop)
    assert [score.image for score in scores] == ["0_x4.png", "1_x4.png", "2_x4.png"]
    for number, score in enumerate(scores):
        a, b = (read_image(folder / name).rgb for folder, name in zip(folders, (f"{number}_x4.png", f"{number}.png"),
                                                                     strict=True))
        assert score.psnr_y == psnr(a, b, crop=crop, y_channel=True)
        assert score.psnr_rgb == psnr(a, b, crop=crop)
        assert score.ssim_y == ssim(a, b, crop=crop, y_channel=True)
        assert score.ssim_rgb == ssim(a, b, crop=crop)
    mean = mean_score(scores)
    assert mean.image == "mean" and mean.ssim_rgb == pytest.approx(sum(score.ssim_rgb for score in scores) / 3)


def test_the_border_is_4_unless_asked_otherwise(folders):
    assert score_folders(*folders) == score_folders(*folders, crop=4) != score_folders(*folders, crop=3)


def test_table(folders, tmp_path):
    scores = score_folders(*folders)
    write_scores(tmp_path / "scores.csv", scores)
    with open(tmp_path / "scores.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["image"] for line in lines] == ["0_x4.png", "1_x4.png", "2_x4.png", "mean"]
    assert list(lines[0]) == ["image", "psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"]
    mean = np.mean([float(line["psnr_y"]) for line in lines[:-1]])
    assert float(lines[-1]["psnr_y"]) == pytest.approx(mean, abs=1e-5)


def test_equal_images_are_infinitely_close(tmp_path):
    write_random(tmp_path / "sr" / "a.png")
    write_random(tmp_path / "hr" / "a.png")
    score, = score_folders(tmp_path / "sr", tmp_path / "hr")
    assert score.psnr_y == score.psnr_rgb == math.inf and score.ssim_y == pytest.approx(1)


def test_grey_and_16_bits(folders):
    before = score_folders(*folders)
    sharp = read_image(folders[1] / "0.png").rgb
    write_image(folders[1] / "0.png", sharp.astype(np.uint16) * 257)
    assert score_folders(*folders)[0] == before[0]
    grey = read_image(folders[0] / "1_x4.png").rgb[..., 0]
    write_image(folders[0] / "1_x4.png", grey)
    score = score_folders(*folders)[1]
    assert score.psnr_rgb == psnr(np.stack([grey] * 3, 2), read_image(folders[1] / "1.png").rgb, crop=4)


def test_every_image_that_is_left_out_is_named(folders):
    sr, hr = folders
    write_random(sr / "alone.png")
    write_random(hr / "without.png")
    for name in ("broken", "wide", "tiny"):
        write_random(hr / f"{name}.png", 18, 40)
    (sr / "broken_x4.png").write_bytes(b"no image")
    write_random(sr / "wide_x4.png", 18, 41)
    write_random(sr / "tiny_x4.png", 18, 40)
    skipped: list[str] = []
    assert len(score_folders(*folders, on_skip=skipped.append)) == 3
    for path, reason in ((sr / "alone.png", "has no partner in"), (hr / "without.png", "has no partner in"),
                         (sr / "broken_x4.png", "not a readable"), (sr / "wide_x4.png", "41x18 pixels and"),
                         (sr / "tiny_x4.png", "too few are left without a border of 4")):
        assert len([text for text in skipped if text.startswith(str(path)) and reason in text]) == 1, path
    assert len(skipped) == 5
    with pytest.raises(ImageError, match="has no partner"):
        score_folders(*folders)


def test_what_upscale_writes_beside_results_is_not_compared(folders):
    for ending in ("kernel", "compare"):
        write_random(folders[0] / f"0_x4_{ending}.png")
    assert len(score_folders(*folders)) == 3
    write_random(folders[0] / "other_kernel.png")
    with pytest.raises(ImageError, match=r"other_kernel\.png: has no partner"):
        score_folders(*folders)


def test_what_cannot_be_compared(folders, tmp_path):
    sr, hr = folders
    (tmp_path / "empty").mkdir()
    write_random(tmp_path / "others" / "q.png")
    for results, against, message in ((sr, sr, "are one folder"), (sr, tmp_path / "empty", "holds no image"),
                                      (tmp_path / "missing", hr, "no such file"),
                                      (tmp_path / "others", hr, "no image of .*others could be compared")):
        with pytest.raises(DanFastError, match=message):
            score_folders(results, against, on_skip=lambda reason: None)


def test_the_sheet_shows_the_ten_worst(tmp_path):
    for number in range(13):
        write_random(tmp_path / "hr" / f"{number:02}.png", 40, 40, seed=number)
        image = read_image(tmp_path / "hr" / f"{number:02}.png").rgb.astype(int)
        # The higher its number the worse.
        write_image(tmp_path / "sr" / f"{number:02}.png", np.clip(image + 1 + 5 * number, 0, 255).astype(np.uint8))
    sheet = WorstSheet()
    scores = score_folders(tmp_path / "sr", tmp_path / "hr", on_scored=sheet)
    assert sheet.images == [f"{number:02}.png" for number in range(12, 2, -1)]
    by_psnr = sorted(scores, key=lambda score: score.psnr_y)
    assert sheet.images == [score.image for score in by_psnr[:10]]
    picture = sheet.picture()
    row = picture.shape[0] // 10
    assert picture.dtype == np.uint8 and picture.shape[0] == 10 * row and 80 < picture.shape[1] < 120
    first = picture[:row]
    for name, folder in (("sr", 0), ("hr", 1)):
        image = read_image(tmp_path / name / "12.png").rgb
        left = 6 + folder * 46
        np.testing.assert_array_equal(first[24:64, left:left + 40], image)


def test_of_large_images_the_part_that_differs_most_is_shown():
    sharp = np.random.default_rng(0).integers(0, 200, (700, 900, 3), np.uint8)
    result = sharp.copy()
    result[650:690, 820:880] += 50
    sheet = WorstSheet()
    sheet(score_of(result, sharp), result, sharp)
    picture = sheet.picture()
    assert picture.shape[1] < 1100
    # The part lies at the right and lower edge, so that both images end with their own last pixels.
    shown = picture[-6 - 512:-6, 6:6 + 512]
    difference = np.abs(shown.astype(int) - picture[-6 - 512:-6, -6 - 512:-6]).sum(2) > 0
    assert difference.sum() == 40 * 60


def score_of(result, sharp):
    return Score("large", psnr(result, sharp, y_channel=True), 0.0, 0.0, 0.0)


def test_names_that_the_font_lacks(tmp_path):
    write_random(tmp_path / "hr" / "größe.png")
    write_random(tmp_path / "sr" / "größe.png", seed=1)
    sheet = WorstSheet()
    score_folders(tmp_path / "sr", tmp_path / "hr", on_scored=sheet)
    assert sheet.images == ["größe.png"] and sheet.picture().min() < 100
