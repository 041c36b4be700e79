"""What came out of an experiment: means, spreads, and whether a difference is more than chance."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from .experiment import Experiment
from .runner import Result

# Column of Result: how it is called, how many digits, which direction is better (0: neither).
COLUMNS = {"psnr_y": ("PSNR Y", 2, 1), "ssim_y": ("SSIM Y", 4, 1), "kernel_error": ("kernel error", 3, -1),
           "code_error": ("code error", 3, -1)}
COSTS = {"parameters": "parameters", "multiply_adds": "multiply-adds per pixel"}


class Spread(NamedTuple):
    """Mean and sample standard deviation over seeds."""

    mean: float
    deviation: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else float("nan"))


def difference(results: Sequence[Result], against: Sequence[Result], column: str) -> Spread | None:
    """Seed by seed, as runs of one seed see the same patches and kernels; None where one has no such figure."""
    other = {result.seed: getattr(result, column) for result in against}
    pairs = [(getattr(result, column), other[result.seed]) for result in results]
    if any(value is None for pair in pairs for value in pair):
        return None
    return spread([value - reference for value, reference in pairs])


def is_significant(change: Spread) -> bool:
    """Whether the mean difference is more than twice the spread of the differences over the seeds."""
    return abs(change.mean) > 2 * change.deviation


def table(experiment: Experiment, results: Sequence[Result]) -> str:
    """Markdown: the question, a row a trial, and what the differences say."""
    rows = _by_trial(results)
    seeds = len(next(iter(rows.values())))
    titles = [title for title, _, _ in COLUMNS.values()]
    lines = [f"{experiment.question} {experiment.note}".strip(), "",
             f"Mean and standard deviation over {seeds} seeds.", "",
             "| | " + " | ".join([*titles, *COSTS.values()]) + " |", "|---" * (1 + len(titles) + len(COSTS)) + "|"]
    for name, of_trial in rows.items():
        cells = [_cell([getattr(result, column) for result in of_trial], digits)
                 for column, (_, digits, _) in COLUMNS.items()]
        cells += [f"{getattr(of_trial[0], column):,}" for column in COSTS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {line}" for line in verdicts(experiment, results)), "",
              "A difference counts if it is more than twice its standard deviation over the seeds, seed by seed."]
    return "\n".join(lines) + "\n"


def verdicts(experiment: Experiment, results: Sequence[Result]) -> list[str]:
    """A sentence for each row that is compared with another, and each figure that both have."""
    rows = _by_trial(results)
    lines = []
    for trial in (trial for variant in experiment.variants for trial in variant.trials):
        if trial.against is None:
            continue
        for column, (title, digits, better) in COLUMNS.items():
            change = difference(rows[trial.name], rows[trial.against], column)
            if change is not None:
                said = "better" if change.mean * better > 0 else "worse"
                if not is_significant(change):
                    said = "these runs cannot tell"
                elif round(change.mean, digits) == 0:
                    said = "too little to matter"
                lines.append(f"{trial.name} against {trial.against}, {title}: {change.mean:+.{digits}f} "
                             f"± {change.deviation:.{digits}f}: {said}")
    return lines


def _by_trial(results: Sequence[Result]) -> dict[str, list[Result]]:
    rows: dict[str, list[Result]] = {}
    for result in results:
        rows.setdefault(result.trial, []).append(result)
    return rows


def _cell(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean, deviation = spread(known)
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"
