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
    # t = 4.16: p = 0.053, though more than twice the deviation, which is 0.01: three pairs show 3.26 of it
    (0.024, "these runs cannot tell; differences below 0.04 dB stay hidden"),
    (0.0, "no difference")])
def test_verdict_counts_the_comparisons(gain, expected):
    assert verdict(comparisons(EXPERIMENT, results(gain, 0.0))[0]) == expected


def test_a_difference_that_does_not_show_is_not_called_better():
    assert verdict(comparisons(EXPERIMENT, results(1e-3, 0.0, spread=1e-6))[0]) == "too little to matter"


def test_other_figures_have_their_own_decimals_and_no_decibels():
    found = [replace(one, ssim_y=0.5 + 0.001 * one.seed * (one.trial == "b")) for one in results(0.0, 0.0)]
    compared = {(one.trial, one.column): one for one in comparisons(EXPERIMENT, found)}
    assert verdict(compared["b", "ssim_y"]) == "these runs cannot tell; differences below 0.0033 stay hidden"


def test_one_test_has_no_spread_and_no_verdict():
    page = table(EXPERIMENT, [replace(one, anew=0) for one in results(0.3, 0.0)[::3]])
    assert "One test of given weights" in page and "| b | 20.29 | 0.5000 | 0.100 | 0.100 | 1 | 1 |\n" in page
    assert "- b against a, PSNR Y: +0.29, of these weights\n" in page
    assert not any(word in page for word in ("±", "p =", "better", "worse", "tell", "hidden", "nan", "anew"))


def test_the_page_says_what_started_anew_and_what_was_not_tested():
    found = [replace(one, anew=1234 if one.trial == "a" else 5) for one in results(0.3, 0.0)]
    page = table(EXPERIMENT, found)
    assert "| multiply-adds per pixel | parameters started anew |\n" in page
    assert "| 1 | 1 | 1,234 |\n" in page and page.count("| 1 | 1 | 5 |\n") == 2
    assert "Not tested yet" not in page and "anew" not in table(EXPERIMENT, results(0.3, 0.0))
    fewer = [one for one in found if one.trial != "c"]
    assert "\nNot tested yet: c.\n" in table(EXPERIMENT, fewer) and "c against" not in table(EXPERIMENT, fewer)


def test_less_error_is_better():
    found = [replace(one, kernel_error=0.5 - 0.1 * (one.trial == "b") + 0.001 * one.seed * (one.trial == "b"))
             for one in results(0.0, 0.0)]
    compared = {(one.trial, one.column): one for one in comparisons(EXPERIMENT, found)}
    assert verdict(compared["b", "kernel_error"]) == "better"


def test_the_page_names_p_and_the_number_of_comparisons():
    page = table(EXPERIMENT, results(0.06, 0.0))
    assert "- b against a, PSNR Y: +0.06 ± 0.01, p = 0.009: perhaps better\n" in page
    assert "These are 8 comparisons." in page and "before the correction, 80% of the time" in page
