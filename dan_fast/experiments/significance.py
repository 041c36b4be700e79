"""Whether a difference over a few seeds is more than chance: paired t-tests, their power, corrections for number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

_NORMAL = statistics.NormalDist()


def paired_p_value(differences: Sequence[float]) -> float:
    """The two-sided p-value of Student's paired t-test: how likely is a mean this far from 0 by chance?

    Args:
        differences: of two or more pairs.
    """
    mean, deviation = statistics.fmean(differences), statistics.stdev(differences)
    if deviation == 0:
        return 1.0 if mean == 0 else 0.0
    return two_sided_p(mean / (deviation / math.sqrt(len(differences))), len(differences) - 1)


def two_sided_p(t: float, freedom: int) -> float:
    """P(|T| > ``|t|``) of Student's t with ``freedom`` degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).

    With a = atan(t / sqrt(f)), P(|T| < t) is

    - f odd: 2/pi (a + sin a (cos a + 2/3 cos^3 a + … + (2·4·…·(f-3)) / (3·5·…·(f-2)) cos^(f-2) a)),
    - f even: sin a (1 + 1/2 cos^2 a + … + (1·3·…·(f-3)) / (2·4·…·(f-2)) cos^(f-2) a).
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    odd = freedom % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= (power + 1) / (power + 2) * math.cos(angle) ** 2
    within = math.sin(angle) * total
    return 1 - (2 / math.pi * (angle + within) if odd else within)


def detectable(differences: Sequence[float], level: float = 0.05, power: float = 0.8) -> float:
    """The smallest mean difference that pairs with this spread would most likely have shown, in their unit.

    Were the true mean as large, a two-sided paired t-test would find p < ``level`` with probability ``power``. The
    spread is taken as exactly that of ``differences``, which few pairs know only roughly.

    Args:
        differences: of two or more pairs.
    """
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return error * _detectable_shift(len(differences) - 1, level, power)


@cache
def _detectable_shift(freedom: int, level: float, power: float) -> float:
    """The true mean, in standard errors, that a two-sided t-test finds with probability ``power``."""
    critical = _solved(lambda t: 1 - two_sided_p(t, freedom), 1 - level)
    return _solved(lambda shift: _power(shift, freedom, critical), power)


def _power(shift: float, freedom: int, critical: float) -> float:
    """P(|T| > ``critical``) of the noncentral t, T = (Z + ``shift``) / S with Z normal and S^2 = chi^2_f / f.

    For a given S it is a normal probability; Simpson's rule takes the mean over the density of S,
    2 (f/2)^(f/2) / Gamma(f/2) s^(f-1) exp(-f s^2 / 2).
    """
    half = freedom / 2
    s = np.linspace(0, 1 + 10 / math.sqrt(freedom), 2001)[1:]
    density = 2 * np.exp(half * math.log(half) - math.lgamma(half) + (freedom - 1) * np.log(s) - half * s**2)
    found = np.array([_NORMAL.cdf(shift - critical * x) + _NORMAL.cdf(-shift - critical * x) for x in s.tolist()])
    weights = np.where(np.arange(1, len(s) + 1) % 2, 4, 2) * (s[1] - s[0]) / 3
    weights[-1] /= 2
    # At s = 0 the density is 0, or with one degree of freedom that of half a normal distribution; found is 1.
    at_zero = math.sqrt(2 / math.pi) * (s[1] - s[0]) / 3 if freedom == 1 else 0.0
    return at_zero + float((weights * density * found).sum())


def _solved(rising: Callable[[float], float], value: float) -> float:
    """The positive argument at which the function ``rising`` reaches ``value``, by bisection."""
    low, high = 0.0, 1.0
    while rising(high) < value:
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return high


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests together, in their order, corrected by Holm's method (1979)."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        corrected[number] = largest
    return corrected
