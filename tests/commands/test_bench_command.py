import csv

import pytest
from support.json_output import objects

from dan_fast.cli import main
from dan_fast.evaluation.timings import read_timings


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


@pytest.mark.parametrize("options", [[], ["--plain"]])
def test_json_has_what_the_csv_has(tiny_weights, tmp_path, capsys, options):
    path = tmp_path / "times.csv"
    assert main(["bench", "--weights", str(tiny_weights), "--sizes", "16x24", "32x32", "--repeats", "2",
                 "--device", "cpu", "--csv", str(path), "--json", *options]) == 0
    printed = capsys.readouterr()
    (found,) = objects(printed.out)
    assert printed.err == ""
    assert found["weights"] == str(tiny_weights) and found["dtype"] == "fp32" and found["device"] == "cpu"
    for size, timing in zip(found["sizes"], read_timings(path), strict=True):
        assert (size["width"], size["height"]) == (timing.width, timing.height)
        assert found["machine"] == timing.machine
        for name in ("median_ms", "fastest_ms", "floor_ms", "plain_ms"):
            expected = getattr(timing, name)
            assert (size[name] is None) == (expected is None) == (name == "plain_ms" and not options)
            assert expected is None or size[name] == pytest.approx(expected, abs=1e-6)
        floor = found["multiply_adds_per_pixel"] * size["width"] * size["height"] / found["multiply_adds_per_second"]
        assert size["floor_ms"] == pytest.approx(1000 * floor)


def test_quiet_writes_the_csv_and_prints_nothing(tiny_weights, tmp_path, capsys):
    common = ["bench", "--weights", str(tiny_weights), "--sizes", "16x16", "--repeats", "1", "--quiet"]
    assert main([*common, "--csv", str(tmp_path / "times.csv")]) == 0
    assert capsys.readouterr() == ("", "")
    assert len(read_timings(tmp_path / "times.csv")) == 1
    assert main(common) == 2
    assert "give --csv FILE or --json" in capsys.readouterr().err
