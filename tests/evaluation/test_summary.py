"""The tables of ``evaluate``: what is written is what is read."""

import csv
from dataclasses import replace

import pytest

from dan_fast.errors import DanFastError
from dan_fast.evaluation.measure import Row
from dan_fast.evaluation.summary import (
    ALIGNED,
    ALL_KERNELS,
    COLUMNS,
    MEASURES,
    NEEDED,
    OF_KERNELS,
    read_summary,
    summarize,
    write_rows,
    write_summary,
)


def rows(name, sigmas, images=2):
    """Rows whose every figure is the row's number."""
    made = []
    for image in range(images):
        for kernel, sigma in enumerate(sigmas):
            number = float(len(made))
            made.append(Row(name, f"{image}.png", kernel, sigma, *[number] * 21, seconds=number))
    return made


def test_one_summary_per_kernel_and_one_of_all():
    summaries = summarize([*rows("a", [1.8, None]), *rows("b", [2.0], images=3)])
    assert [(s.set, s.sigma, s.cases) for s in summaries] == [
        ("a", "1.80", 2), ("a", "#1", 2), ("a", ALL_KERNELS, 4), ("b", ALL_KERNELS, 3)]
    for summary, mean in zip(summaries, (1.0, 2.0, 1.5, 1.0), strict=True):
        assert set(summary.figures) == {*MEASURES, *ALIGNED, "median_ms"}
        assert all(summary.figures[name] == mean for name in (*MEASURES, *ALIGNED))
        assert summary.figures["median_ms"] == 1000 * mean


def test_reads_what_it_wrote(tmp_path):
    summaries = summarize(rows("a, with a comma", [1.8, None]))
    write_summary(tmp_path / "summary.csv", summaries)
    assert read_summary(tmp_path / "summary.csv") == summaries


def test_older_files_have_fewer_columns(tmp_path):
    path = tmp_path / "summary.csv"
    path.write_text(",".join(NEEDED) + "\n" + ",".join(["a", "mean", "3", *["1.5"] * len(MEASURES)]) + "\n")
    summary, = read_summary(path)
    assert summary.figures == dict.fromkeys(MEASURES, 1.5)


def test_what_is_not_known_is_empty_and_stays_so(tmp_path):
    unknown = [replace(row, **dict.fromkeys(OF_KERNELS)) for row in rows("a", [None])]
    write_rows(tmp_path / "evaluation.csv", unknown)
    with open(tmp_path / "evaluation.csv", newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            assert {name for name, value in line.items() if value == ""} == {"sigma", *OF_KERNELS}
    summaries = summarize(unknown)
    assert set(summaries[0].figures) == {*MEASURES, "median_ms"} - set(OF_KERNELS)
    write_summary(tmp_path / "summary.csv", summaries)
    assert read_summary(tmp_path / "summary.csv") == summaries


def test_fidelity_is_always_known(tmp_path):
    write_summary(tmp_path / "summary.csv", summarize(rows("a", [1.8])))
    text = (tmp_path / "summary.csv").read_text().splitlines()
    cells = text[1].split(",")
    cells[COLUMNS.index("psnr_y")] = ""
    (tmp_path / "summary.csv").write_text(f"{text[0]}\n{','.join(cells)}\n")
    with pytest.raises(DanFastError, match=r"summary\.csv: expected"):
        read_summary(tmp_path / "summary.csv")


@pytest.mark.parametrize("text", [
    "", ",".join(COLUMNS) + "\n", "set,sigma,cases\na,mean,3\n", ",".join(NEEDED) + "\na,mean,3\n",
    ",".join(NEEDED) + "\na,mean,3" + ",x" * len(MEASURES) + "\n"])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "other.csv").write_text(text)
    with pytest.raises(DanFastError, match=r"other\.csv: expected the summary\.csv"):
        read_summary(tmp_path / "other.csv")


def test_times_are_not_in_the_table_of_cases(tmp_path):
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        write_rows(tmp_path / name, [replace(row, seconds=seconds) for row in rows("a", [1.8])])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
