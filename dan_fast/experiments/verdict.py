"""The outcome of an experiment: means, spreads, and whether differences are more than chance."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from .experiment import Experiment, Trial
from .runner import Result
from .significance import detectable, holm, paired_p_value

# Column of Result: its title, its decimals, and which direction is better (1: up, -1: down).
COLUMNS = {"psnr_y": ("PSNR Y", 2, 1), "ssim_y": ("SSIM Y", 4, 1), "kernel_error": ("kernel error", 3, -1),
           "code_error": ("code error", 3, -1)}
UNITS = {"psnr_y": " dB"}
COSTS = {"parameters": "parameters", "multiply_adds": "multiply-adds per pixel"}
ANEW = {"anew": "parameters started anew"}
# The largest p-value of a difference that is called one.
LEVEL = 0.05
# With which a difference of the stated size would have shown.
POWER = 0.8
CANNOT_TELL = "these runs cannot tell"


class Spread(NamedTuple):
    """Mean and sample standard deviation over seeds; of one value the deviation is NaN."""

    mean: float
    deviation: float


class Comparison(NamedTuple):
    """A trial against another one, in one column.

    Attributes:
        change: of the figure, seed by seed.
        p: of a paired t-test over the seeds; NaN with one seed, as the following two are.
        corrected_p: the same, corrected for the number of comparisons in the experiment.
        detectable: the smallest change that the seeds would have shown, with p < LEVEL before the correction and
            probability POWER.
    """

    trial: str
    against: str
    column: str
    change: Spread
    p: float
    corrected_p: float
    detectable: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else float("nan"))


def differences(results: Sequence[Result], against: Sequence[Result], column: str) -> list[float] | None:
    """Seed by seed, as runs of one seed see the same patches and kernels; None where one has no such figure."""
    other = {result.seed: getattr(result, column) for result in against}
    pairs = [(getattr(result, column), other[result.seed]) for result in results]
    if any(value is None for pair in pairs for value in pair):
        return None
    return [value - reference for value, reference in pairs]


def comparisons(experiment: Experiment, results: Sequence[Result]) -> list[Comparison]:
    """Every tested trial that names another one to be compared with, in every figure that both have."""
    by_trial = _by_trial(results)
    pairs = [(trial.name, trial.against) for trial in _trials(experiment)
             if trial.against is not None and trial.name in by_trial]
    changes = {(name, against, column): values for name, against in pairs for column in COLUMNS
               if (values := differences(by_trial[name], by_trial[against], column)) is not None}
    if any(len(values) == 1 for values in changes.values()):
        return [Comparison(*what, spread(values), math.nan, math.nan, math.nan) for what, values in changes.items()]
    p_values = [paired_p_value(values) for values in changes.values()]
    return [Comparison(*what, spread(values), p, corrected, detectable(values, LEVEL, POWER))
            for (what, values), p, corrected in zip(changes.items(), p_values, holm(p_values), strict=True)]


def verdict(comparison: Comparison) -> str:
    """``"better"`` or ``"worse"``, with ``"perhaps"`` where only the p-value without correction is low enough.

    With one seed the difference is a fact about these weights, and nothing says whether others would show it.
    """
    _, decimals, direction = COLUMNS[comparison.column]
    if math.isnan(comparison.p):
        return "of these weights"
    if comparison.change == (0, 0):
        return "no difference"
    if comparison.p >= LEVEL:
        # Rounded up, as nothing smaller is promised.
        hidden = math.ceil(comparison.detectable * 10**decimals) / 10**decimals
        return f"{CANNOT_TELL}; differences below {hidden:.{decimals}f}{UNITS.get(comparison.column, '')} stay hidden"
    if round(comparison.change.mean, decimals) == 0:
        return "too little to matter"
    word = "better" if comparison.change.mean * direction > 0 else "worse"
    return word if comparison.corrected_p < LEVEL else f"perhaps {word}"


def table(experiment: Experiment, results: Sequence[Result]) -> str:
    """Markdown: the question, a row per trial, and what the differences say."""
    by_trial = _by_trial(results)
    seeds = len(next(iter(by_trial.values())))
    started = seeds > 1 and any(result.anew is not None for result in results)
    costs = {**COSTS, **ANEW} if started else COSTS
    titles = [*(title for title, _, _ in COLUMNS.values()), *costs.values()]
    lines = [f"{experiment.question} {experiment.note}".strip(), "",
             f"Mean and standard deviation over {seeds} seeds." if seeds > 1 else
             "One test of given weights, which were not trained any further.", ""]
    if missing := [trial.name for trial in _trials(experiment) if trial.name not in by_trial]:
        lines += [f"Not tested yet: {'; '.join(missing)}.", ""]
    if started:
        lines += ["All networks start from the same weights. What the last column counts starts anew, at random: what "
                  "the question is about, and what not all of these networks have.", ""]
    lines += ["| | " + " | ".join(titles) + " |", "|---" * (1 + len(titles)) + "|"]
    for name, trial_results in by_trial.items():
        cells = [_cell([getattr(result, column) for result in trial_results], decimals)
                 for column, (_, decimals, _) in COLUMNS.items()]
        cells += [f"{getattr(trial_results[0], column):,}" for column in costs]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    compared = comparisons(experiment, results)
    lines += ["", *map(_line, compared), ""]
    if seeds == 1:
        lines.append(f"These are {len(compared)} comparisons of one test each. They say how these weights do, and "
                     "nothing about others, as there is no spread to judge chance by.")
        return "\n".join(lines) + "\n"
    lines += [f"These are {len(compared)} comparisons. Each p-value is that of a two-sided paired t-test over the "
              f"{seeds} seeds. \"Better\" and \"worse\" mean p < {LEVEL:g} after Holm's correction for all "
              f"{len(compared)}; \"perhaps\" means p < {LEVEL:g} only before it: chance alone gives that to one "
              f"comparison in {round(1 / LEVEL)}. A difference stays hidden below the size that {seeds} seeds of this "
              f"spread show with p < {LEVEL:g}, before the correction, {POWER:.0%} of the time."]
    return "\n".join(lines) + "\n"


def _line(comparison: Comparison) -> str:
    title, decimals, _ = COLUMNS[comparison.column]
    mean, deviation = comparison.change
    what = f"- {comparison.trial} against {comparison.against}, {title}: {mean:+.{decimals}f}"
    if math.isnan(comparison.p):
        return f"{what}, {verdict(comparison)}"
    p = "p < 0.001" if comparison.p < 0.001 else f"p = {comparison.p:.3f}"
    return f"{what} ± {deviation:.{decimals}f}, {p}: {verdict(comparison)}"


def _trials(experiment: Experiment) -> list[Trial]:
    return [trial for variant in experiment.variants for trial in variant.trials]


def _by_trial(results: Sequence[Result]) -> dict[str, list[Result]]:
    by_trial: dict[str, list[Result]] = {}
    for result in results:
        by_trial.setdefault(result.trial, []).append(result)
    return by_trial


def _cell(values: Sequence[float | None], decimals: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean, deviation = spread(known)
    return f"{mean:.{decimals}f}" + (f" ± {deviation:.{decimals}f}" if len(known) > 1 else "")
