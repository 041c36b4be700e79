"""The outcome of an experiment: means, spreads, and whether differences are more than chance."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from .experiment import Experiment
from .runner import Result
from .significance import holm, paired_p_value

# Column of Result: its title, its decimals, and which direction is better (1: up, -1: down).
COLUMNS = {"psnr_y": ("PSNR Y", 2, 1), "ssim_y": ("SSIM Y", 4, 1), "kernel_error": ("kernel error", 3, -1),
           "code_error": ("code error", 3, -1)}
COSTS = {"parameters": "parameters", "multiply_adds": "multiply-adds per pixel"}
# The largest p-value of a difference that is called one.
LEVEL = 0.05


class Spread(NamedTuple):
    """Mean and sample standard deviation over seeds."""

    mean: float
    deviation: float


class Comparison(NamedTuple):
    """A trial against another one, in one column.

    Attributes:
        change: of the figure, seed by seed.
        p: of a paired t-test over the seeds.
        corrected_p: the same, corrected for the number of comparisons in the experiment.
    """

    trial: str
    against: str
    column: str
    change: Spread
    p: float
    corrected_p: float


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
    """Every trial that names another one to be compared with, in every figure that both have."""
    by_trial = _by_trial(results)
    trials = [trial for variant in experiment.variants for trial in variant.trials]
    pairs = [(trial.name, trial.against) for trial in trials if trial.against is not None]
    changes = {(name, against, column): values for name, against in pairs for column in COLUMNS
               if (values := differences(by_trial[name], by_trial[against], column)) is not None}
    p_values = [paired_p_value(values) for values in changes.values()]
    return [Comparison(*what, spread(values), p, corrected)
            for (what, values), p, corrected in zip(changes.items(), p_values, holm(p_values), strict=True)]


def verdict(comparison: Comparison) -> str:
    """``"better"`` or ``"worse"``, with ``"perhaps"`` where only the p-value without correction is low enough."""
    _, decimals, direction = COLUMNS[comparison.column]
    if comparison.change == (0, 0):
        return "no difference"
    if comparison.p >= LEVEL:
        return "these runs cannot tell"
    if round(comparison.change.mean, decimals) == 0:
        return "too little to matter"
    word = "better" if comparison.change.mean * direction > 0 else "worse"
    return word if comparison.corrected_p < LEVEL else f"perhaps {word}"


def table(experiment: Experiment, results: Sequence[Result]) -> str:
    """Markdown: the question, a row per trial, and what the differences say."""
    by_trial = _by_trial(results)
    seeds = len(next(iter(by_trial.values())))
    titles = [title for title, _, _ in COLUMNS.values()]
    lines = [f"{experiment.question} {experiment.note}".strip(), "",
             f"Mean and standard deviation over {seeds} seeds.", "",
             "| | " + " | ".join([*titles, *COSTS.values()]) + " |", "|---" * (1 + len(titles) + len(COSTS)) + "|"]
    for name, trial_results in by_trial.items():
        cells = [_cell([getattr(result, column) for result in trial_results], decimals)
                 for column, (_, decimals, _) in COLUMNS.items()]
        cells += [f"{getattr(trial_results[0], column):,}" for column in COSTS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    compared = comparisons(experiment, results)
    lines += ["", *map(_line, compared), "",
              f"These are {len(compared)} comparisons. Each p-value is that of a two-sided paired t-test over the "
              f"{seeds} seeds. \"Better\" and \"worse\" mean p < {LEVEL:g} after Holm's correction for all "
              f"{len(compared)}; \"perhaps\" means p < {LEVEL:g} only before it: chance alone gives that to one "
              f"comparison in {round(1 / LEVEL)}."]
    return "\n".join(lines) + "\n"


def _line(comparison: Comparison) -> str:
    title, decimals, _ = COLUMNS[comparison.column]
    mean, deviation = comparison.change
    p = "p < 0.001" if comparison.p < 0.001 else f"p = {comparison.p:.3f}"
    return (f"- {comparison.trial} against {comparison.against}, {title}: {mean:+.{decimals}f} ± "
            f"{deviation:.{decimals}f}, {p}: {verdict(comparison)}")


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
    return f"{mean:.{decimals}f} ± {deviation:.{decimals}f}"
