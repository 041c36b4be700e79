"""docs/results.md is what its CSVs say; the pictures that go with it."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from dan_fast.blur_kernels.shape import kernel_shape
from dan_fast.cli import main
from dan_fast.errors import DanFastError
from dan_fast.evaluation.measure import bicubic
from dan_fast.evaluation.summary import COLUMNS, OF_KERNELS, Summary, write_summary
from dan_fast.evaluation.timings import Timing, write_timings
from dan_fast.image_files import read_image
from dan_fast.report import sheets
from dan_fast.report.plots import draw
from dan_fast.report.tables import read_measured, results

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def folder(tmp_path):
    pictures = shutil.ignore_patterns("*.png", "*.jpg")
    return Path(shutil.copytree(DOCS / "results", tmp_path / "results", ignore=pictures))


def test_the_page_is_what_the_csvs_say():
    assert (DOCS / "results.md").read_text(encoding="utf-8") == results(DOCS / "results"), "run: make results"


def test_figures_come_from_the_csvs(folder):
    path = folder / "v2-0.3M-x4.csv"
    before = results(folder)
    line = next(line for line in path.read_text().splitlines() if line.startswith("Set5,mean"))
    cells = line.split(",")
    assert f"{float(cells[4]):.2f} / {float(cells[6]):.4f}" in before
    cells[4] = "12.345678"
    path.write_text(path.read_text().replace(line, ",".join(cells)))
    assert "12.35 / " in results(folder) and "12.35 / " not in before


def test_times_come_from_what_bench_wrote(folder):
    path = folder / "speed" / "v2-0.3M-x4.csv"
    path.parent.mkdir(exist_ok=True)
    write_timings(path, [Timing("This one", "fp32", side, side, median, 1.0, 1.0, None)
                         for side, median in ((64, 1.5), (128, 98765.4))])
    page = results(folder)
    assert "| 98765 |" in page and "image of 128x128: " in page and "This one, fp32" in page


def test_the_table_of_other_networks_is_the_first_of_their_page(folder):
    (folder / "peers.md").write_text("# Peers\n\ntext\n\n| a | b |\n| --- | --- |\n| 1 | 12.34 |\n\n| c |\n")
    page = results(folder)
    assert page.endswith("measures it again.\n\n| a | b |\n| --- | --- |\n| 1 | 12.34 |\n")
    (folder / "peers.md").unlink()
    assert "Other networks" not in results(folder)


def test_plots(folder):
    pytest.importorskip("matplotlib")
    draw(folder)
    for name in ("cost.png", "sigma.png"):
        picture = read_image(folder / name).rgb
        assert picture.shape[1] == 700 and picture.min() < 100
    first = (folder / "sigma.png").read_bytes()
    draw(folder)
    assert (folder / "sigma.png").read_bytes() == first


def test_refuses_folders_of_something_else(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    (tmp_path / "v2-0.3M-x4.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DanFastError, match=r"summary\.csv"):
        read_measured(tmp_path)
    assert main(["report", str(tmp_path)]) == 2
    shutil.copy(DOCS / "results" / "v2-0.3M-x4.csv", tmp_path / "other.csv")
    (tmp_path / "v2-0.3M-x4.csv").unlink()
    assert main(["report", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_refuses_figures_without_kernels(tmp_path):
    figures = {column: 1.0 for column in COLUMNS[3:] if column not in OF_KERNELS}
    write_summary(tmp_path / "v2-0.3M-x4.csv", [Summary("RealSR", "mean", 3, figures)])
    with pytest.raises(DanFastError, match=r"x4\.csv: has no kernel errors"):
        read_measured(tmp_path)


def test_motion_and_defocus_kernels():
    shake, disc = sheets.motion_kernel(12, 30), sheets.defocus_kernel(4.5)
    for kernel in (shake, disc):
        assert kernel.shape == (21, 21) and kernel.sum() == pytest.approx(1) and kernel.min() >= 0
        assert np.allclose(kernel, kernel[::-1, ::-1], atol=1e-3)
    shape = kernel_shape(shake)
    # A line of length l has the standard deviation l / sqrt(12). Its angle counts up from the x axis.
    assert shape.major == pytest.approx(12 / 12**0.5, rel=0.05) and shape.angle == pytest.approx(150, abs=1)
    assert shape.minor < 0.6
    assert kernel_shape(disc).major == pytest.approx(4.5 / 2, rel=0.05)  # of a disc: r / 2


def test_damaged_photos(tmp_path):
    cases = list(sheets.damaged_photos(4))
    assert len(cases) == 25
    by_damage = {case.damage: case for case in cases if case.photo == "dog"}
    assert not np.array_equal(by_damage["noise"].lr, by_damage["Gaussian"].lr)
    assert not np.array_equal(by_damage["JPEG"].lr, by_damage["Gaussian"].lr)
    # Close, so the order of channels is the same.
    assert np.abs(by_damage["JPEG"].lr.astype(int) - by_damage["Gaussian"].lr).mean() < 6

    class Plain:
        scale = 4

        def __call__(self, lr):
            self.image, self.kernel = bicubic(lr, 4), np.eye(21) / 21
            return self

    figures = sheets.draw_limits(Plain(), tmp_path / "limits.png")
    assert [damage for damage, *_ in figures] == ["Gaussian", "motion", "defocus", "noise", "JPEG"]
    assert all(before == after for _, before, after, _ in figures)
    sheet = cv2.imread(str(tmp_path / "limits.png"))
    assert sheet.shape[0] > 5 * sheets.SHOWN and sheet.shape[1] > 3.5 * sheets.SHOWN
    sheets.draw_kernels(Plain(), tmp_path / "kernels.png")
    assert cv2.imread(str(tmp_path / "kernels.png")).shape[1] > 5 * 126
