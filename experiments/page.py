"""One HTML file that shows what was measured and what was said: the table, the curve, transcripts side by side."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dialog_envs import scenarios as scenario_library
from dialog_envs.names import look_up
from dialog_envs.scenarios.scenario import AGENT, PARTNER, Scenario
from experiments.episodes import Episode
from experiments.rendering import render
from experiments.run_folder import ResultRow, write_text
from reward_models.social_score import DIMENSIONS
from reward_models.verification import met_targets

OUTCOMES = {"goal": "goal reached", "goodbye": "said goodbye", "turn_limit": "turn limit"}
SHORT_NAMES = {"financial_and_material_benefits": "benefits", "social_rules": "social rules"}
SMALLEST_CHANGE = 0.05  # of a dimension in one turn; less is not shown


@dataclass(frozen=True)
class Change:
    """How one dimension changed in one agent turn."""

    name: str
    change: float
    strong: bool  # goal and knowledge: what the agent was to reach


@dataclass
class Bubble:
    """One utterance; where a turn of the agent and its answer are over, what they changed."""

    speaker: str
    text: str
    found: list[str] = field(default_factory=list)  # targets of the goal that this utterance met
    value: float | None = None  # mean of the dimensions so far
    changes: list[Change] = field(default_factory=list)


@dataclass(frozen=True)
class Dimension:
    """One dimension at the end; `left` and `width` place its bar on its range, in percent."""

    name: str
    value: float
    low: float
    high: float
    left: float
    width: float


@dataclass(frozen=True)
class Column:
    """One system's dialogue."""

    system: str
    bubbles: list[Bubble]
    outcome: str
    error: str | None
    value: float | None
    dimensions: list[Dimension]
    targets: list[tuple[str, bool]]


@dataclass(frozen=True)
class Block:
    """One scenario and seed under every system."""

    scenario: Scenario
    seed: int
    columns: list[Column]


@dataclass(frozen=True)
class TableRow:
    """One system's result; `at`, `low_at`, `high_at` place it on a common scale, in percent."""

    row: ResultRow
    low: float | None  # ends of the interval, where there is one
    high: float | None
    at: float
    low_at: float
    high_at: float
    best: bool


def write_transcript_page(
    path: Path,
    title: str,
    systems: Mapping[str, Sequence[Episode]],
    table: Sequence[ResultRow],
    curve_png: Path | None,
    facts: Mapping[str, str],
) -> Path:
    """Write the page: one file that needs no network and no other file.

    Args:
        path: where it goes; written to a temporary name and renamed.
        title: its headline.
        systems: name -> episodes. Shown are the (scenario, seed) pairs that all systems have, in the first one's order.
        table: results. The rows of the first row's metric make the main table, other metrics a second one.
        curve_png: a plot to embed, or None.
        facts: what to know about the run, name -> value.

    Raises:
        ValueError: there is no system, or an episode's scenario is unknown.
        FileNotFoundError: there is no such plot.
    """
    if not systems:
        raise ValueError("no systems: a page of transcripts needs at least one")
    html = render(
        "page.html",
        filters=FILTERS,
        title=title,
        headline=_headline(table),
        table=_table_rows(table),
        others=_other_metrics(table),
        curve=None if curve_png is None else base64.b64encode(curve_png.read_bytes()).decode(),
        facts=facts,
        systems=list(systems),
        blocks=transcript_blocks(systems),
        AGENT=AGENT,
        PARTNER=PARTNER,
    )
    write_text(path, html)
    return path


def transcript_blocks(systems: Mapping[str, Sequence[Episode]]) -> list[Block]:
    """Pair the systems' episodes by scenario and seed."""
    by_pair = {
        name: {(episode.scenario, episode.seed): episode for episode in episodes} for name, episodes in systems.items()
    }
    first, *rest = by_pair.values()
    common = [pair for pair in first if all(pair in other for other in rest)]
    scenarios: dict[str, Scenario] = {}
    for name in {scenario_id.rpartition("/")[0] for scenario_id, _ in common}:
        scenarios |= {scenario.id: scenario for scenario in scenario_library.load(name)}
    blocks = []
    for scenario_id, seed in common:
        scenario = look_up("scenario", scenario_id, scenarios)
        columns = [_column(name, pairs[scenario_id, seed], scenario) for name, pairs in by_pair.items()]
        blocks.append(Block(scenario, seed, columns))
    return blocks


def _column(system: str, episode: Episode, scenario: Scenario) -> Column:
    bubbles = [Bubble(speaker, text) for speaker, text in episode.turns]
    met = met_targets(episode.turns, scenario.goal, AGENT)
    for name, index in met.items():
        bubbles[index].found.append(_plain_name(name))
    _note_changes(bubbles, episode.scores)
    if episode.error is not None:
        outcome = "failed"
    else:
        outcome = OUTCOMES.get(episode.outcome or "", episode.outcome or "unfinished")
    value = _mean(episode.score) if episode.score else None
    targets = [(_plain_name(target.name), target.name in met) for target in scenario.goal.targets]
    return Column(system, bubbles, outcome, episode.error, value, _dimensions(episode.score), targets)


def _note_changes(bubbles: list[Bubble], scores: Sequence[Mapping[str, float]]) -> None:
    """Note each scored turn's changes at the answer that completes it: agent turn k ends before agent turn k + 1."""
    begins = [i for i, bubble in enumerate(bubbles) if bubble.speaker == AGENT]
    ends = [*(begin - 1 for begin in begins[1:]), len(bubbles) - 1]
    before: Mapping[str, float] = {}
    for end, score in zip(ends, scores, strict=False):  # a turn that failed has no score
        changes = [
            Change(_plain_name(name), value - before.get(name, 0.0), name in ("goal", "knowledge"))
            for name, value in score.items()
            if abs(value - before.get(name, 0.0)) >= SMALLEST_CHANGE
        ]
        bubbles[end].changes = sorted(changes, key=lambda change: (not change.strong, -abs(change.change)))
        bubbles[end].value = _mean(score)
        before = score


def _dimensions(score: Mapping[str, float]) -> list[Dimension]:
    placed = []
    for name, value in score.items():
        low, high = DIMENSIONS.get(name, (min(0.0, value), max(1.0, value)))
        zero, at = (100 * (min(max(x, low), high) - low) / (high - low) for x in (0.0, value))
        placed.append(Dimension(_plain_name(name), value, low, high, min(zero, at), abs(at - zero)))
    return placed


def _table_rows(table: Sequence[ResultRow]) -> list[TableRow]:
    rows = [row for row in table if row.metric == table[0].metric]
    known = [row for row in rows if math.isfinite(row.value)]
    low = min((row.value - _half(row) for row in known), default=0.0)
    high = max((row.value + _half(row) for row in known), default=1.0)
    margin = 0.06 * (high - low) or 1.0
    low, high = low - margin, high + margin
    best = max((row.value for row in known), default=math.nan)

    def place(value: float) -> float:
        return 100 * (value - low) / (high - low) if math.isfinite(value) else 0.0

    placed = []
    for row in rows:
        a, b = row.value - _half(row), row.value + _half(row)
        ends = (a, b) if _half(row) > 0 else (None, None)
        placed.append(TableRow(row, *ends, place(row.value), place(a), place(b), best=row.value == best))
    return placed


def _other_metrics(table: Sequence[ResultRow]) -> dict[str, dict[str, ResultRow]]:
    """Return metric -> system -> row, for every metric but the first."""
    others: dict[str, dict[str, ResultRow]] = {}
    for row in table:
        if row.metric != table[0].metric:
            others.setdefault(row.metric, {})[row.system] = row
    return others


def _headline(table: Sequence[ResultRow]) -> str:
    """Say which system is best and whether its interval is clear of the next one's."""
    rows = [row for row in table if row.metric == table[0].metric and math.isfinite(row.value)]
    if len(rows) < 2:
        return ""
    best, second = sorted(rows, key=lambda row: -row.value)[:2]
    text = f"{best.system} has the highest {_plain_name(best.metric)}, {best.value:.2f}; "
    text += f"the next is {second.system} with {second.value:.2f}"
    if not (_half(best) and _half(second)):
        return text + "."
    clear = best.value - _half(best) > second.value + _half(second)
    return text + ("; their 95% intervals do not overlap." if clear else "; their 95% intervals overlap.")


def _half(row: ResultRow) -> float:
    """Return half the width of the interval, 0 where it is unknown."""
    return row.ci95 if row.ci95 is not None and math.isfinite(row.ci95) else 0.0


def _mean(score: Mapping[str, float]) -> float:
    return sum(score.values()) / len(score)


def _plain_name(name: str) -> str:
    return SHORT_NAMES.get(name, name.replace("_", " "))


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value + 0.0:.{digits}f}".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


FILTERS = {"number": _number, "signed": _signed, "plain": _plain_name}  # of every template that shows transcripts
