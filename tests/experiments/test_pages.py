"""The pages of docs/experiments are what the code makes of the CSV files beside them."""

from pathlib import Path

import pytest

from dan_fast.experiments import EXPERIMENTS
from dan_fast.experiments.experiment import TINY
from dan_fast.experiments.runner import read_results
from dan_fast.experiments.verdict import comparisons, table

FOLDER = Path(__file__).parents[2] / "docs" / "experiments"


def test_there_is_a_page_for_every_experiment():
    expected = {f"{name}.{kind}" for name in EXPERIMENTS for kind in ("csv", "md")}
    assert {path.name for path in FOLDER.iterdir()} == expected


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_page(name):
    made = table(EXPERIMENTS[name](TINY), read_results(FOLDER / f"{name}.csv"))
    assert (FOLDER / f"{name}.md").read_text(encoding="utf-8") == made, f"make {name}.md anew from {name}.csv"


def test_the_overview_counts_the_comparisons():
    count = sum(len(comparisons(EXPERIMENTS[name](TINY), read_results(FOLDER / f"{name}.csv"))) for name in EXPERIMENTS)
    overview = (FOLDER.parent / "experiments.md").read_text(encoding="utf-8")
    assert f"the seven pages hold {count} comparisons" in overview and len(EXPERIMENTS) == 7
