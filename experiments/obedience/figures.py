"""The figures that the replies give: agreement with stated probabilities, rates, controls followed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from dialog_envs.scenarios.acquaintance import P_ANSWER
from experiments.obedience.answers import GRAMMAR, STEERED, UNSTEERED, Answer
from experiments.obedience.places import kind_of
from experiments.run_folder import ResultRow
from experiments.statistics import clustered_ci95

STATED = "stated"
RIGHT_FACT, RIGHT_VALUE = "right_fact_when_asked", "right_value_when_told"
OBEDIENCE, READ_RIGHT, FOLLOWED, BASE_RATE = "obedience", "read_right", "followed", "followed_unsteered"
ALL_CONTROLS = "all controls"


def agreement(outcomes: Iterable[str], stated: Mapping[str, float]) -> float:
    """Return 1 minus the total-variation distance between observed outcomes and stated probabilities, in [0, 1]."""
    counts = Counter(outcomes)
    total = sum(counts.values())
    return 1 - 0.5 * sum(abs(counts[name] / total - stated.get(name, 0.0)) for name in {*counts, *stated})


def by_seed(answers: Iterable[Answer], value: Callable[[Answer], float]) -> np.ndarray:
    """Return the values as `(seeds, answers)`; seeds with fewer answers are filled up with NaN."""
    seeds = _grouped(answers, lambda answer: answer.seed).values()
    longest = max(map(len, seeds))
    return np.array([[*map(value, group), *[np.nan] * (longest - len(group))] for group in seeds])


def row(system: str, metric: str, values: np.ndarray, n: int | None = None) -> ResultRow:
    """Return a row of results from values `(seeds, samples)`; `n` is their number where each sums up several."""
    mean, ci95 = clustered_ci95(values)
    return ResultRow(system, metric, mean, ci95, n or int(np.isfinite(values).sum()), len(values))


def facts_rows(answers: Sequence[Answer]) -> list[ResultRow]:
    """Return how often the right fact was told when asked, after the stated probability."""
    rows = [ResultRow(STATED, RIGHT_FACT, P_ANSWER, None, 0, 0)]
    for system, group in _grouped(answers, lambda answer: answer.system).items():
        rows.append(row(system, RIGHT_FACT, by_seed(group, lambda answer: float(bool(answer.right)))))
    return rows


def place_rows(kind: str, spoken: Sequence[Answer], own: Sequence[Answer]) -> list[ResultRow]:
    """Return the obedience of a kind, that of the grammar itself, how well it was read, and how often values are right.

    Obedience is the mean agreement over cells, each cell of each seed weighing the same.
    """
    rows = [_obedience(kind, group) for group in (spoken, own) if group]
    if own:
        rows.append(row(own[0].system, f"{kind}/{READ_RIGHT}", by_seed(own, lambda answer: answer.as_meant)))
    telling = [answer for answer in spoken if answer.right is not None]
    if telling:
        values = by_seed(telling, lambda answer: float(bool(answer.right)))
        rows.append(row(telling[0].system, f"{kind}/{RIGHT_VALUE}", values))
    return rows


def _obedience(kind: str, answers: Sequence[Answer]) -> ResultRow:
    values = []
    for group in _grouped(answers, lambda answer: answer.cell).values():
        seeds = _grouped(group, lambda answer: answer.seed).values()
        values.append([agreement((answer.outcome for answer in seed), group[0].stated) for seed in seeds])
    return row(answers[0].system, f"{kind}/{OBEDIENCE}", np.array(values).T, n=len(answers))


def rate_rows(answers: Sequence[Answer]) -> list[ResultRow]:
    """Return how often each stated outcome was observed, `<part>/<cell>/<outcome>`, after the stated probability."""
    rows = []
    for (part, cell), group in _grouped(answers, lambda answer: (answer.part, answer.cell)).items():
        for outcome, probability in group[0].stated.items():
            metric = f"{part}/{cell}/{outcome}"
            rows.append(ResultRow(STATED, metric, probability, None, 0, 0))
            for system, replies in _grouped(group, lambda answer: answer.system).items():
                rows.append(row(system, metric, by_seed(replies, lambda answer, o=outcome: float(answer.outcome == o))))
    return rows


def control_rows(answers: Sequence[Answer]) -> tuple[list[ResultRow], list[ResultRow]]:
    """Return how often all controls, and those of each kind, were followed, steered and not; and for each control."""
    systems = _grouped(answers, lambda answer: answer.system)
    unsteered = _grouped(systems[UNSTEERED], lambda answer: answer.cell)
    steered = _grouped(systems[STEERED], lambda answer: answer.cell)
    followed = {name: by_seed(group, lambda answer: answer.as_meant) for name, group in steered.items()}
    base = {
        name: by_seed(unsteered[kind_of(name)], lambda answer, n=name: float(answer.outcome == n)) for name in steered
    }
    each = [row(name, FOLLOWED, followed[name]) for name in followed] + [row(n, BASE_RATE, base[n]) for n in base]
    together = []
    for metric, values in ((FOLLOWED, followed), (BASE_RATE, base)):
        for kind, names in _grouped(values, kind_of).items():
            together.append(row(f"{kind} controls", metric, np.concatenate([values[name] for name in names], 1)))
        together.append(row(ALL_CONTROLS, metric, np.concatenate(list(values.values()), 1)))
    own = systems[f"{GRAMMAR}heldout"]
    together.append(row(own[0].system, f"controls/{READ_RIGHT}", by_seed(own, lambda answer: answer.as_meant)))
    return together, each


def _grouped(items: Iterable, key: Callable) -> dict:
    """Return the items by key, keys and items in order."""
    groups: dict = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return dict(sorted(groups.items()))
