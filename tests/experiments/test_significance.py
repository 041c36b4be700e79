"""t-tests against SciPy's."""

import numpy as np
import pytest

from dan_fast.experiments.significance import detectable, holm, paired_p_value, two_sided_p

stats = pytest.importorskip("scipy.stats")


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 20, 29])
@pytest.mark.parametrize("t", [0.0, 0.3, -1.0, 2.0, -3.464, 4.303, 12.0, 100.0])
def test_p_value(t, freedom):
    assert two_sided_p(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("values", [[0.1, 0.2, 0.15], [-0.4, 0.1, 0.3, -0.2], [1.0, 1.01, 0.99, 1.0, 1.02]])
def test_paired(values):
    assert paired_p_value(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-9)


def test_without_spread():
    assert paired_p_value([0.0, 0.0, 0.0]) == 1
    assert paired_p_value([0.5, 0.5, 0.5]) == 0


def test_twice_the_standard_deviation_of_three_is_not_enough():
    values = [2 - 1.0, 2.0, 2 + 1.0]  # mean 2, deviation 1
    assert paired_p_value(values) == pytest.approx(0.074, abs=5e-4)


def test_holm():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("pairs", [2, 3, 4, 5, 20])
@pytest.mark.parametrize(("level", "power"), [(0.05, 0.8), (0.01, 0.9)])
def test_a_detectable_difference_is_found_with_its_power(pairs, level, power):
    differences = [0.1 * number**1.5 for number in range(pairs)]
    error = stats.sem(differences)
    critical = stats.t.ppf(1 - level / 2, pairs - 1)
    shift = detectable(differences, level, power) / error
    # SciPy's cdf of the other tail is sometimes NaN where it is 0.
    found = stats.nct.sf(critical, pairs - 1, shift) + np.nan_to_num(stats.nct.cdf(-critical, pairs - 1, shift))
    assert found == pytest.approx(power, abs=1e-6)


def test_without_spread_everything_is_detectable():
    assert detectable([0.5, 0.5, 0.5]) == 0
