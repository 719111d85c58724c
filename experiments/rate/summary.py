"""What the ratings say: shares of good, okay and bad, systems against each other, and how raters took the checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from experiments.rate.answers import RATINGS, Answer
from experiments.rate.items import TRUE
from experiments.rendering import Table, render
from experiments.run_folder import ResultRow
from experiments.statistics import grouped_ci95

Z = 1.96
_VALUE = {"good": 2, "okay": 1, "bad": 0}
CHECK = "true reply called good or okay"


def share_ci95(values: Sequence[float] | np.ndarray, dialogues: Sequence[str]) -> tuple[float, float | None]:
    """Return the mean of values in [-1, 1] and half of its 95% interval, where those of one dialogue are dependent.

    Where all values are equal, the sample's variance would say that nothing is left to chance; the half-width is then
    Wilson's for a share of none among so many dialogues. That of a single dialogue is None.
    """
    values = np.asarray(values, float)
    mean, half = grouped_ci95(values, np.asarray(dialogues))
    if np.isnan(half):
        return mean, None
    count = len(set(dialogues))
    return mean, Z**2 / (count + Z**2) if np.ptp(values) == 0 else half


def rows(answers: Sequence[Answer]) -> list[ResultRow]:
    """Return all results; `n` counts ratings, `seeds` raters."""
    systems = sorted({system for answer in answers for system in answer.ratings}, key=lambda name: (name == TRUE, name))
    found = []
    for system in systems:
        rated = [answer for answer in answers if system in answer.ratings]
        for rating in RATINGS:
            found.append(_row(system, rating, rated, [answer.ratings[system] == rating for answer in rated]))
    for first, second in combinations(systems, 2):
        both = [answer for answer in answers if first in answer.ratings and second in answer.ratings]
        if both:
            gains = np.array([_VALUE[a.ratings[first]] - _VALUE[a.ratings[second]] for a in both])
            name = f"{first} against {second}"
            parts = {"better": gains > 0, "as good": gains == 0, "worse": gains < 0}
            found += [_row(name, metric, both, values) for metric, values in parts.items()]
            found.append(_row(name, "better minus worse", both, np.sign(gains)))
    for rater in sorted({answer.rater for answer in answers}):
        checked = [answer for answer in answers if answer.rater == rater and TRUE in answer.ratings]
        if checked:
            found.append(_row(f"rater {rater}", CHECK, checked, [a.ratings[TRUE] != "bad" for a in checked]))
    return found


def _row(system: str, metric: str, answers: Sequence[Answer], values: Iterable[float]) -> ResultRow:
    mean, half = share_ci95(np.array(list(values), float), [answer.item for answer in answers])
    return ResultRow(system, metric, mean, half, len(answers), len({answer.rater for answer in answers}))


def text(results: Sequence[ResultRow], answers: Sequence[Answer]) -> str:
    """Return the results as a page of Markdown tables."""
    metrics = ("better", "as good", "worse", "better minus worse")
    return render(
        "rate_summary.md",
        dialogues=len({answer.item for answer in answers}),
        raters=len({answer.rater for answer in answers}),
        answers=len(answers),
        systems=_table(results, RATINGS, "system"),
        pairs=_table(results, metrics, "systems"),
        checks=_table(results, (CHECK,), "rater"),
    )


def _table(results: Sequence[ResultRow], metrics: Sequence[str], what: str) -> Table:
    by_system: dict[str, dict[str, ResultRow]] = {}
    for row in results:
        if row.metric in metrics:
            by_system.setdefault(row.system, {})[row.metric] = row
    lines = [[name, *(_cell(row[m]) for m in metrics), row[metrics[0]].n] for name, row in by_system.items()]
    return [[what, *metrics, "ratings"], *lines]


def _cell(row: ResultRow) -> str:
    return f"{100 * row.value:.1f}" + ("" if row.ci95 is None else f" +- {100 * row.ci95:.1f}")
