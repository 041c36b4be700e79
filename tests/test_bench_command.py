import pytest

from dan_fast.cli import main


def test_bench_prints_a_line_for_each_size(tiny_weights, capsys):
    assert main(["bench", "--weights", str(tiny_weights), "--sizes", "16x24", "32x32", "--repeats", "2",
                 "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["16x24", "32x32"]
    assert all(float(value) > 0 for line in lines[-2:] for value in line.split()[1:])


@pytest.mark.parametrize("size", ["16", "0x16", "-1x5", "axb"])
def test_bench_refuses_other_sizes(tiny_weights, size):
    assert main(["bench", "--weights", str(tiny_weights), f"--sizes={size}"]) == 2
