"""What a comparison found: differences and ratios with intervals, the rows of its table, figures, transcripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.scenarios.scenario import Scenario
from experiments.episodes import Episode
from experiments.evaluate import print_table, table, values
from experiments.page import write_transcript_page
from experiments.plots import plot_bars, plot_curves
from experiments.rendering import cell, markdown
from experiments.run_folder import ResultRow, write_json, write_results, write_text
from experiments.statistics import clustered_ci95
from experiments.train import Algorithm, Curve

PLANNER = "TD3+BC"  # the system that the others are compared with
OTHER_PARTNER = ", other partner"  # stands behind a system's name
DIFFERENCES = {"episode_return": "td3_bc_minus_this_return", "goal": "td3_bc_minus_this_goal"}
ONLINE = ("td3", "sac", "ppo")
COLUMNS = {  # of the table; `{}` stands for the first system
    "return": "episode_return",
    "goal": "goal",
    "goal / {}": "goal_ratio_over_{}",
    "TD3+BC minus this, return": DIFFERENCES["episode_return"],
    "TD3+BC minus this, goal": DIFFERENCES["goal"],
    "believability": "believability",
    "perplexity / {}": "perplexity_ratio_over_{}",
    "Distinct-2": "distinct_2",
    "gain lost": "gain_lost_with_other_partner",
}

Dialogues = Mapping[str, Sequence[Sequence[Episode]]]  # system -> seeds -> the same scenarios and dice for every system


@dataclass(frozen=True)
class Results:
    """What all systems did; the first one is what gains and ratios are counted from.

    Attributes:
        episodes: held-out dialogues with the partner that planners were trained with.
        transferred: the same with another partner, or nothing.
        algorithms: by system, of those that were trained.
        curves: by trained system, a curve a seed.
        environment_steps: by trained system, the most that one of its seeds took.
    """

    episodes: Dialogues
    transferred: Dialogues
    algorithms: Mapping[str, Algorithm]
    curves: Mapping[str, Sequence[Curve]]
    environment_steps: Mapping[str, int]


def report(out: Path, results: Results, lm: FrozenLM, known: Sequence[Scenario], facts: Mapping[str, str]) -> None:
    """Write `results.json`, `table.md`, `curves.json`, figures and `transcripts.html`, and print the table."""
    rows = comparison_rows(results, lm, known)
    write_results(out, rows)
    write_text(out / "table.md", markdown_table(rows))
    write_json(out / "curves.json", results.curves)
    figures = draw_curves(out, results)
    if any(row.metric == DIFFERENCES["episode_return"] for row in rows):
        plot_bars(out / "differences.png", rows, DIFFERENCES["episode_return"])
    first = next(iter(results.episodes))
    shown = {name: results.episodes[name][0] for name in dict.fromkeys((first, PLANNER)) if name in results.episodes}
    title = " and ".join(shown) + ", same scenario and seed"
    write_transcript_page(out / "transcripts.html", title, shown, rows, next(iter(figures), None), facts)
    print_table(rows)
    print_differences(rows)


def comparison_rows(results: Results, lm: FrozenLM, known: Sequence[Scenario]) -> list[ResultRow]:
    """Return the rows of both partners, with differences, ratios, and what a planner's gain loses by the change."""
    rows = partner_rows(results.episodes, lm, known)
    for name, steps in results.environment_steps.items():
        seeds = len(results.episodes[name])
        rows.append(ResultRow(name, "environment_steps", steps, None, seeds, seeds))
    if results.transferred:
        moved = partner_rows(results.transferred, lm, known)
        rows += [replace(row, system=row.system + OTHER_PARTNER) for row in moved]
        rows += transfer_rows(results.episodes, results.transferred)
    return rows


def partner_rows(episodes: Dialogues, lm: FrozenLM, known: Sequence[Scenario]) -> list[ResultRow]:
    """Return the table of one partner, and its differences and ratios."""
    rows = table(episodes, lm, known)
    return rows + difference_rows(episodes) + ratio_rows(episodes, rows)


def difference_rows(episodes: Dialogues) -> list[ResultRow]:
    """Return TD3+BC minus each other system, dialogue by dialogue, in return and goal."""
    if PLANNER not in episodes:
        return []
    return [
        paired_row(name, label, values(episodes[PLANNER], metric) - values(episodes[name], metric))
        for name in episodes
        if name != PLANNER
        for metric, label in DIFFERENCES.items()
    ]


def transfer_rows(own: Dialogues, other: Dialogues) -> list[ResultRow]:
    """Return by how much each system's gain over the first is smaller with the other partner."""

    def gain(episodes: Dialogues, name: str) -> np.ndarray:
        return values(episodes[name], "episode_return") - values(episodes[next(iter(own))], "episode_return")

    names = list(own)[1:]
    return [paired_row(name, "gain_lost_with_other_partner", gain(own, name) - gain(other, name)) for name in names]


def paired_row(system: str, metric: str, differences: np.ndarray) -> ResultRow:
    """Return the row of differences `(seeds, episodes)`; NaN, where one side failed, is left out."""
    return ResultRow(
        system, metric, *clustered_ci95(differences), int(np.isfinite(differences).sum()), len(differences)
    )


def ratio_rows(episodes: Dialogues, rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Return each system's mean goal score and perplexity over those of the first system."""
    first, *others = episodes
    perplexities = {row.system: row for row in rows if row.metric == "perplexity"}
    found = []
    for name in others:
        ratio, ci95, count = ratio_ci95(values(episodes[name], "goal"), values(episodes[first], "goal"))
        found.append(ResultRow(name, f"goal_ratio_over_{first}", ratio, ci95, count, len(episodes[name])))
        row = perplexities[name]
        over = row.value / perplexities[first].value
        found.append(replace(row, metric=f"perplexity_ratio_over_{first}", value=over))
    return found


def ratio_ci95(above: np.ndarray, below: np.ndarray) -> tuple[float, float, int]:
    """Return the ratio of two means of pairs `(seeds, episodes)`, half its 95% interval, and the number of pairs.

    The interval is the delta method's: that of the mean of `above - ratio * below`, over the mean of `below`. NaN where
    that mean is 0.
    """
    whole = np.isfinite(above) & np.isfinite(below)
    if not whole.any() or below[whole].mean() == 0:
        return float("nan"), float("nan"), int(whole.sum())
    middle = float(below[whole].mean())
    ratio = float(above[whole].mean()) / middle
    return ratio, clustered_ci95(above - ratio * below)[1] / abs(middle), int(whole.sum())


def markdown_table(rows: Sequence[ResultRow]) -> str:
    """Return what was found as a Markdown table, a system a line; columns of which nothing was found are left out."""
    found, first = {(row.system, row.metric): row for row in rows}, rows[0].system
    columns = {title.format(first): metric.format(first) for title, metric in COLUMNS.items()}
    columns = {title: metric for title, metric in columns.items() if any(row.metric == metric for row in rows)}
    lines = [
        [system, *(cell(found.get((system, metric))) for metric in columns.values())]
        for system in dict.fromkeys(row.system for row in rows)
    ]
    return markdown([["system", *columns], *lines])


def draw_curves(out: Path, results: Results) -> list[Path]:
    """Draw TD3+BC beside its ablations, and beside the online algorithms; what has no curve is a line."""
    offline, online = (
        [name for name, algorithm in results.algorithms.items() if algorithm in kind] for kind in (("td3_bc",), ONLINE)
    )
    searches = [name for name, algorithm in results.algorithms.items() if algorithm in ("best_fixed", "best_of_n")]
    figures = []
    for kind, shown in {"td3_bc": offline, "online": [PLANNER, *online] if online else []}.items():
        names = [name for name in shown if len(results.curves.get(name, [[]])[0]) > 1]
        if not names:
            continue
        curves = {}
        for name in names:
            steps = [step for step, _ in results.curves[name][0]]
            curves[name] = (steps, np.array([[np.nanmean(r) for _, r in curve] for curve in results.curves[name]]))
        lines = dict.fromkeys([next(iter(results.episodes)), *searches, *shown])
        baselines = {
            name: clustered_ci95(values(results.episodes[name], "episode_return"))
            for name in lines
            if name in results.episodes and name not in names
        }
        path = out / f"curve_{kind}.png"
        figures.append(plot_curves(path, curves, "environment steps", "return on held-out scenarios", baselines))
    return figures


def print_differences(rows: Sequence[ResultRow]) -> None:
    """Print TD3+BC minus each other system, and where the interval excludes zero."""
    found = [row for row in rows if row.metric in DIFFERENCES.values()]
    width = max((len(row.system) for row in found), default=0)
    for row in found:
        clear = "" if abs(row.value) <= row.ci95 else ", zero excluded"
        what = row.metric.removeprefix("td3_bc_minus_this_")
        print(f"{PLANNER} minus {row.system:<{width}}  {what:<7}{row.value:+6.2f} +- {row.ci95:.2f}{clear}")
