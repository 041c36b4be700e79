"""The table of ``--timing``: shares add up, and parallel work is listed apart from them."""

from __future__ import annotations

import random
import time

import pytest

from dan_fast.command_line.timing import READ, WORK, Clock, shares, timing_table
from dan_fast.inference import UpscalerStats
from dan_fast.inference.graphs import GraphStats

NO_GRAPHS = GraphStats(0, 0, 0, 0)


def test_shares_add_up_whatever_they_are():
    for _ in range(300):
        parts = [random.random() ** random.randint(1, 9) for _ in range(random.randint(1, 12))]
        found = shares(parts)
        assert round(sum(found), 6) == 100
        assert all(abs(share - 100 * part / sum(parts)) < 0.1 + 1e-9 for share, part in zip(found, parts, strict=True))
    assert shares([0.0, 0.0]) == [0.0, 0.0] and shares([1.0, -0.1]) == [100.0, 0.0]
    assert shares([1, 1, 1]) == [33.4, 33.3, 33.3]


def test_the_time_of_other_threads_is_not_a_share():
    clock = Clock()
    with clock(READ):
        assert clock.elsewhere("reading", lambda value: time.sleep(0.02) or value)(7) == 7
    with clock(WORK):
        time.sleep(0.02)
    clock.stop()
    total = clock.total
    assert clock.meanwhile["reading"] >= 0.02 and clock.own[WORK] >= 0.02
    assert sum(clock.own.values()) <= total == clock.total


@pytest.mark.parametrize("on_gpu", [False, True])
def test_stages_of_a_gpu_overlap(on_gpu):
    clock = Clock()
    clock.own[WORK] = 3.0
    clock._stop = clock._start + 4.0
    # A GPU may have been busy for longer than the calls took.
    stats = UpscalerStats(1, {"body": 5.0 if on_gpu else 2.0, "total": 3.0}, NO_GRAPHS)
    table = timing_table(clock, stats, on_gpu)
    assert "-" not in table
    if on_gpu:
        assert "upscaling      3.000 s    75.0 %" in table and "GPU: body      5.000 s" in table
    else:
        assert "body      2.000 s    50.0 %" in table and "at the same time" not in table
