"""The table of ``bench``: what is written is what is read."""

import pytest

from dan_fast.errors import DanFastError
from dan_fast.evaluation.timings import Timing, read_timings, write_timings


def test_reads_what_it_wrote(tmp_path):
    timings = [Timing("CPU, 2 threads", "fp32", 128, 96, 2.5, 2.25, 1.0, plain) for plain in (10.5, None)]
    write_timings(tmp_path / "times.csv", timings)
    assert read_timings(tmp_path / "times.csv") == timings


@pytest.mark.parametrize(("before", "after"), [("floor_ms", "floor"), (",1.000000,", ""), ("128", "wide")])
def test_another_file_is_refused(tmp_path, before, after):
    path = tmp_path / "times.csv"
    write_timings(path, [Timing("CPU", "fp32", 128, 96, 2.5, 2.25, 1.0, None)])
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(DanFastError, match=r"times\.csv: expected the file that dan-fast bench --csv writes"):
        read_timings(path)
