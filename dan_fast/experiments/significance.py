"""Whether a difference over a few seeds is more than chance: paired t-tests, corrected for their number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


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


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests together, in their order, corrected by Holm's method (1979)."""
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[number]))
        corrected[number] = largest
    return corrected
