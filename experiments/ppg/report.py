"""Tables, figures and one page: what was measured, beside the paper's values as far as a file gives them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from agents.exchanges import Exchange
from experiments.plots import plot_curves
from experiments.ppg.critics import LEARNS
from experiments.ppg.evaluation import CRITICS
from experiments.ppg.speed import BATCHED, SINGLE
from experiments.ppg.systems import OURS, RL, SYSTEMS
from experiments.rendering import cell, render
from experiments.run_folder import ResultRow, write_json, write_results, write_text

PAPER = Path(__file__).parents[1] / "templates" / "ppg_paper.json"
CRITICS_TITLE = "Critics"
EXAMPLES = 12
LIMIT = 0.02  # most that perplexity may rise, or Distinct-2 fall, by REINFORCE
METRICS = {
    "perplexity": "PPL",
    "bleu": "BLEU",
    "rouge_l": "ROUGE-L F",
    "distinct_1": "Distinct-1",
    "distinct_2": "Distinct-2",
    "critic_reward": "critic",
    "second_critic_reward": "second critic",
    "words": "words",
}
PERSONA_METRICS = {
    "persona_perplexity": "PPL of the true persona",
    "persona_bleu": "BLEU",
    "persona_rouge_l": "ROUGE-L F",
    "persona_distinct_1": "Distinct-1",
    "persona_distinct_2": "Distinct-2",
}
GAINS = {
    "critic_reward_gain": "critic, difference",
    "second_critic_reward_gain": "second critic, difference",
    "perplexity_change": "PPL, relative change",
    "distinct_2_change": "Distinct-2, relative change",
}
ACCURACIES = {
    "accuracy_self": "own persona",
    "majority_self": "majority",
    "accuracy_partner": "partner's persona",
    "majority_partner": "majority",
}
SPEEDS = {"exchanges_per_second": "exchanges a second", "times_as_fast": "times as fast"}
LEARNED = [name for name, system in SYSTEMS.items() if system.reinforce is not None]
TABLES = (  # title, what to know of it, metrics, lines
    (
        CRITICS_TITLE,
        "Accuracy on balanced true and swapped pairs of all exchanges of the evaluated dialogues; intervals are over "
        "pairs and people. The critic gives the reward; the second one, never optimised, learned with another "
        "seed: other first weights, other false pairs; the partner critic with the persona of whom a response is said "
        "to. The paper's accuracies are of other pairs.",
        ACCURACIES,
        list(LEARNS),
    ),
    (
        "Responses (the paper's Table 1)",
        "Mean ± half of the 95% interval, over exchanges and, where a system has several, over seeds. Critic: mean "
        "label, +1 or -1; the second critic was never optimised.",
        METRICS,
        [name for name in SYSTEMS if name not in LEARNED or name == RL],
    ),
    (
        "Ablation: which generator REINFORCE trains, and how",
        "The same measures; all of them start from ours without RL. What has one seed has the interval over exchanges "
        "alone.",
        METRICS,
        [OURS, *LEARNED],
    ),
    ("What REINFORCE changes", "Against the same seeds without it, exchange by exchange.", GAINS, LEARNED),
    (
        "Partner personas that the response generator is told",
        "BLEU and ROUGE-L against the true persona. True personas and their top 3 traits have no perplexity.",
        PERSONA_METRICS,
        list(SYSTEMS),
    ),
    (
        "Speed of a rollout",
        "Personas and responses of full length; one at a time is `generate` of transformers with batch 1.",
        SPEEDS,
        [BATCHED, SINGLE],
    ),
)

ColdStart = dict[str, dict[str, np.ndarray]]  # metric -> system -> (seeds, turns)
Paper = Mapping[str, Mapping[str, float]]  # system -> metric -> value
Histories = Mapping[str, Sequence[Sequence[Mapping[str, float]]]]  # system -> one curve a seed


@dataclass(frozen=True)
class Table:
    """A table: title, what to know of it, names of the columns behind the first, and lines of a name and cells."""

    title: str
    note: str
    columns: Sequence[str]
    lines: Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True)
class Example:
    """An exchange, and of each system: its name, what it was told of the partner, its response, the critic's label."""

    exchange: Exchange
    answers: Sequence[tuple[str, str, str, float]]


def write(
    out: Path,
    config: Any,
    rows: Sequence[ResultRow],
    cold: ColdStart,
    histories: Histories,
    examples: Sequence[Example],
) -> None:
    """Write `results.json`, `tables.md`, `cold_start.json`, figures and `page.html`, and print the tables."""
    write_results(out, rows)
    write_json(out / "cold_start.json", {m: {s: v.tolist() for s, v in by.items()} for m, by in cold.items()})
    tables = make_tables(rows, read_paper(config.paper))
    figures = [*draw_cold_start(out, cold), *draw_histories(out, histories)]
    context = {"tables": tables, "verdicts": verdicts(rows), "config": config}
    context["data"] = {row.metric: row.value for row in rows if row.system == "data"}
    plain = render("ppg_tables.md", **context)
    write_text(out / "tables.md", plain)
    pictures = [(path.stem.replace("_", " "), base64.b64encode(path.read_bytes()).decode()) for path in figures]
    write_text(out / "page.html", render("ppg_page.html", **context, figures=pictures, examples=examples))
    print(plain)


def read_paper(path: Path | None) -> Paper:
    """Read the paper's values, `{system: {metric: value}}`; without a path those of its critics.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON of that form, or names a system that is in no table.
    """
    path = path or PAPER
    values = json.loads(path.read_text(encoding="utf-8"))
    for system, metrics in values.items() if isinstance(values, dict) else [("", values)]:
        if system not in (*LEARNS, *SYSTEMS):
            raise ValueError(f"{path} has values of {system!r}, expected some of {', '.join((*LEARNS, *SYSTEMS))}")
        if not isinstance(metrics, dict) or not all(isinstance(value, int | float) for value in metrics.values()):
            raise ValueError(f"{path}: {system!r} has {metrics!r}, expected numbers by metric")
    return values


def make_tables(rows: Sequence[ResultRow], paper: Paper) -> list[Table]:
    """Return the tables; a metric that `paper` has for one of a table's lines has a second column, of its values."""
    found = {(row.system, row.metric): row for row in rows}
    return [_table(*what, found, paper) for what in TABLES]


def _table(
    title: str,
    note: str,
    metrics: Mapping[str, str],
    names: Sequence[str],
    found: Mapping[tuple[str, str], ResultRow],
    paper: Paper,
) -> Table:
    given = {metric for name in names for metric in paper.get(name, {})}
    columns = [[column, f"{column}, paper"][: 1 + (metric in given)] for metric, column in metrics.items()]
    lines = []
    for name in names:
        label = SYSTEMS[name].label if name in SYSTEMS else name
        cells = [
            [_cell(found.get((label, metric))), str(paper.get(name, {}).get(metric, ""))][: 1 + (metric in given)]
            for metric in metrics
        ]
        if any((label, metric) in found for metric in metrics):
            lines.append((label.replace("_", " "), list(chain.from_iterable(cells))))
    return Table(title, note, list(chain.from_iterable(columns)), lines)


def verdicts(rows: Sequence[ResultRow]) -> list[str]:
    """Say of REINFORCE, in words, whether the reward rose, whether the other critic agrees, and what it cost."""
    label = SYSTEMS[RL].label
    found = {row.metric: row for row in rows if row.system == label and row.metric in GAINS}
    if not found:
        return []
    said, directions = [], []
    for name in CRITICS:
        row = found[f"{name}_reward_gain"]
        half = float("nan") if row.ci95 is None else row.ci95
        directions.append(np.sign(row.value) * (abs(row.value) > half))
        what = ("rises" if row.value > 0 else "falls") + ("," if directions[-1] else ", but zero is not excluded:")
        said.append(f"The {name.replace('_', ' ')}'s mean label {what} {row.value:+.3f} ± {half:.3f}.")
    agree = "do not agree" if directions[0] * directions[1] < 0 else "agree"
    told = f"Both critics {agree} on the direction." if all(directions) else "Whether both critics agree is not told."
    said.append(told)
    for metric, worse, name in (("perplexity_change", 1, "Perplexity"), ("distinct_2_change", -1, "Distinct-2")):
        row = found[metric]
        half = float("nan") if row.ci95 is None else row.ci95
        over = worse * row.value - LIMIT
        kept = ("within" if over <= 0 else "beyond") if abs(over) > half else "not told apart from"
        change = f"{100 * row.value:+.1f} ± {100 * half:.1f}%"
        said.append(f"{name} changes by {change}, {kept} the limit of {100 * LIMIT:.0f}% for the worse.")
    return said


def draw_cold_start(out: Path, cold: ColdStart) -> list[Path]:
    """Draw Figure 3: each metric over the number of turns before the response."""
    names = METRICS | {"critic_reward": "critic's mean label"}
    return [
        plot_curves(
            out / f"figure_3_{metric}.png",
            {name: (np.arange(1, values.shape[1] + 1), values) for name, values in by_system.items()},
            "turns before the response",
            names[metric],
        )
        for metric, by_system in cold.items()
    ]


def draw_histories(out: Path, histories: Histories) -> list[Path]:
    """Draw Figure 4, perplexity during REINFORCE, and the rewards of both critics, on the tuning part."""
    figures = {
        "eval/perplexity_response": ("figure_4_perplexity_of_responses", "perplexity of true responses"),
        "eval/perplexity_personas": ("figure_4_perplexity_of_personas", "perplexity of true partner personas"),
        "eval/reward": ("reward", "critic's mean label"),
        "eval/second_critic": ("reward_of_the_second_critic", "second critic's mean label"),
    }
    paths = []
    for tag, (name, ylabel) in figures.items():
        curves = {}
        for system, runs in histories.items():
            steps = [entry["step"] for entry in runs[0]]
            curves[system] = (steps, np.array([[entry.get(tag, np.nan) for entry in run] for run in runs]))
        if curves:
            paths.append(plot_curves(out / f"{name}.png", curves, "updates", ylabel))
    return paths


def _cell(row: ResultRow | None) -> str:
    return cell(row, 2 if row is not None and abs(row.value) >= 10 else 3)
