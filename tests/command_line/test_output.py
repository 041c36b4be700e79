"""``--json``: each line is JSON that every reader takes, whatever is printed and from however many threads."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dan_fast.command_line.output import print_json


def printed(capsys, **fields):
    print_json("test", **fields)
    text = capsys.readouterr().out
    assert text.endswith("\n") and text.count("\n") == 1 and text.isascii()
    return json.loads(text)


def test_numbers_that_are_not_finite_are_null(capsys):
    fields = {"a": math.nan, "b": [1.5, math.inf, {"c": -math.inf}], "d": np.float64("nan"), "e": (0, 2)}
    assert printed(capsys, **fields) == {"schema": "dan-fast/test/1", "a": None, "b": [1.5, None, {"c": None}],
                                         "d": None, "e": [0, 2]}


def test_text_is_unicode(capsys):
    names = ["grün 中文 😀", "two\nlines\t\"quoted\"\\", "latin-\udce9"]
    found = printed(capsys, names=names)["names"]
    assert found == [*names[:2], "latin-\\udce9"]
    "".join(found).encode("utf-8")


def test_lines_of_threads_are_whole(capfd):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: print_json("test", number=number, text="x" * 200), range(400)))
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert sorted(line["number"] for line in lines) == list(range(400))


def test_a_line_comes_at_once():
    """Into a pipe, where Python would otherwise collect lines."""
    code = ("import time; from dan_fast.command_line.output import print_json; print_json('test'); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert json.loads(child.stdout.readline()) == {"schema": "dan-fast/test/1"}
        finally:
            child.kill()
