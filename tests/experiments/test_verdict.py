"""The verdicts on an experiment's page about its figures."""

from dataclasses import replace

import pytest

from dan_fast.experiments.experiment import TINY, Experiment, Trial, Variant
from dan_fast.experiments.runner import Result
from dan_fast.experiments.verdict import comparisons, differences, table, verdict

EXPERIMENT = Experiment("?", (Variant("v", TINY, (Trial("a"), Trial("b", against="a"), Trial("c", against="a"))),))


def result(trial: str, seed: int, psnr: float, error: float | None = 0.1) -> Result:
    return Result("v", trial, seed, psnr, 0.5, error, 0.1, 1, 1)


def results(*gains: float, spread: float = 0.01) -> list[Result]:
    """The results of variant a, and of variants whose PSNR is higher by ``gains``, give or take ``spread``."""
    return [result(trial, seed, 20.0 + 5 * seed + gain + (gain != 0) * spread * (seed - 1))
            for trial, gain in zip("abc", (0.0, *gains), strict=True) for seed in range(3)]


def test_differences_are_seed_by_seed():
    a, b = results(0.1, 0.0)[:3], results(0.1, 0.0)[3:6]
    assert differences(b, a[::-1], "psnr_y") == pytest.approx([0.09, 0.1, 0.11])
    assert differences([replace(one, kernel_error=None) for one in a], b, "kernel_error") is None


@pytest.mark.parametrize(("gain", "expected"), [
    (0.3, "better"), (-0.3, "worse"),  # t = 52: p = 0.0004, 0.003 after correction for 8 comparisons
    (0.06, "perhaps better"), (-0.06, "perhaps worse"),  # t = 10.4: p = 0.009, 0.07
    (0.024, "these runs cannot tell"),  # t = 4.16: p = 0.053, though more than twice the deviation
    (0.0, "no difference")])
def test_verdict_counts_the_comparisons(gain, expected):
    assert verdict(comparisons(EXPERIMENT, results(gain, 0.0))[0]) == expected


def test_a_difference_that_does_not_show_is_not_called_better():
    assert verdict(comparisons(EXPERIMENT, results(1e-3, 0.0, spread=1e-6))[0]) == "too little to matter"


def test_less_error_is_better():
    found = [replace(one, kernel_error=0.5 - 0.1 * (one.trial == "b") + 0.001 * one.seed * (one.trial == "b"))
             for one in results(0.0, 0.0)]
    compared = {(one.trial, one.column): one for one in comparisons(EXPERIMENT, found)}
    assert verdict(compared["b", "kernel_error"]) == "better"


def test_the_page_names_p_and_the_number_of_comparisons():
    page = table(EXPERIMENT, results(0.06, 0.0))
    assert "- b against a, PSNR Y: +0.06 ± 0.01, p = 0.009: perhaps better\n" in page
    assert "These are 8 comparisons." in page
