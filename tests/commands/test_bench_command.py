import csv

import pytest

from dan_fast.cli import main


@pytest.mark.parametrize(("options", "columns"), [([], 5), (["--plain"], 7), (["--dtype", "bf16"], 5)])
def test_bench_prints_a_line_for_each_size(tiny_weights, capsys, options, columns):
    assert main(["bench", "--weights", str(tiny_weights), "--sizes", "16x24", "32x32", "--repeats", "2",
                 "--device", "cpu", *options]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [line[0] for line in lines] == ["16x24", "32x32"]
    for line in lines:
        assert len(line) == columns and all(float(value.rstrip("%")) >= 0 for value in line[1:])
        assert float(line[1]) >= float(line[2]) > 0 and float(line[3]) > 0


def test_bench_writes_what_it_prints(tiny_weights, tmp_path, capsys):
    path = tmp_path / "new" / "times.csv"
    assert main(["bench", "--weights", str(tiny_weights), "--sizes", "16x24", "32x32", "--repeats", "2",
                 "--device", "cpu", "--plain", "--csv", str(path)]) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    with open(path, newline="", encoding="utf-8") as file:
        for line, (size, median, fastest, floor, _, plain, _) in zip(csv.DictReader(file), printed, strict=True):
            assert f"{line['width']}x{line['height']}" == size and line["dtype"] == "fp32"
            for name, text in (("median", median), ("fastest", fastest), ("floor", floor), ("plain", plain)):
                assert float(line[f"{name}_ms"]) == pytest.approx(float(text), abs=0.006)


@pytest.mark.parametrize("size", ["16", "0x16", "-1x5", "axb"])
def test_bench_refuses_other_sizes(tiny_weights, size):
    assert main(["bench", "--weights", str(tiny_weights), f"--sizes={size}"]) == 2
