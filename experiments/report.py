"""Runs side by side on one page: aggregates over seeds and kinds of scenario, curves, tables, transcripts.

The aggregates are those of "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (Agarwal et al.,
NeurIPS 2021), whose package, rliable, has had no release since 2022: a run is a seed, a task a kind of scenario.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Positional

from dialog_envs.scenarios import AGENT, PARTNER
from experiments import compare
from experiments.comparison import PLANNER
from experiments.episodes import Episode, read_episodes
from experiments.page import FILTERS, transcript_blocks
from experiments.plots import plot_curves
from experiments.rendering import render
from experiments.run_folder import ResultRow, open_run, write_results, write_text
from experiments.statistics import improvement_probability, interquartile_mean, stratified_ci95
from experiments.sweep.config import CELLS
from experiments.train import CURVE, Curve, read_curve
from reward_models.social_score import DIMENSIONS

LABELS = {"compare": {name: system.label for name, system in compare.SYSTEMS.items()}}
LABELS |= {"sweep": {key: cell.label for key, cell in CELLS.items()}}
LABELS |= {"demo": {"": PLANNER, "best_fixed": "best fixed action"}}
EPISODES = "episodes.json"
OWN = ("out", "seeds", "rows", "threads", "workers", "name", "policies", "systems")  # settings that change no number


@dataclass(frozen=True)
class Config:
    """Lay runs side by side on one page that opens without a network."""

    runs: Positional[tuple[Path, ...]]
    """Run folders of any verb; those of `evaluate`, `compare`, `demo` and `sweep` have dialogues to show."""
    out: Path = Path("runs/report")
    """Run folder of the report."""
    systems: tuple[str, ...] = ()
    """Whose transcripts are shown (default: the first system's and the best one's)."""
    transcripts: int = 12
    """Dialogues shown."""


@dataclass(frozen=True)
class Run:
    """What a run folder holds.

    Attributes:
        name: the folder's.
        description: of `run.json`.
        rows: its results.
        episodes: system -> seeds -> dialogues.
        curves: what was trained -> a curve a seed.
    """

    name: str
    description: Mapping[str, Any]
    rows: Sequence[ResultRow]
    episodes: Mapping[str, Sequence[Sequence[Episode]]] = field(default_factory=dict)
    curves: Mapping[str, Sequence[Curve]] = field(default_factory=dict)


@dataclass(frozen=True)
class Aggregate:
    """A system's returns in one number; places on the common scale are in percent.

    Attributes:
        iqm: interquartile mean over seeds and kinds of scenario.
        low, high: ends of its 95% interval, NaN for one seed.
        mean, median: over the same.
        above_first: probability that one of its seeds is above one of the first system's; None for that one itself.
    """

    system: str
    iqm: float
    low: float
    high: float
    mean: float
    median: float
    above_first: float | None
    seeds: int
    dialogues: int
    failed: int
    at: float = 0.0
    low_at: float = 0.0
    high_at: float = 0.0
    best: bool = False


def run(config: Config) -> Path:
    """Read the runs and write the page; return the report's folder.

    Raises:
        FileNotFoundError: a folder is no run folder, or its run has not come to its end.
        ValueError: no run is given, or there is no such system.
    """
    if not config.runs:
        raise ValueError("no runs: name at least one run folder")
    runs = [read_run(folder) for folder in config.runs]
    if len({one.name for one in runs}) < len(runs):
        runs = [replace(one, name=str(folder)) for one, folder in zip(runs, config.runs, strict=True)]
    out = open_run(config.out, "report", config, [folder / "results.json" for folder in config.runs])
    many = len(runs) > 1
    episodes = {label(one, name, many): seeds for one in runs for name, seeds in one.episodes.items()}
    curves = {label(one, name, many): seeds for one in runs for name, seeds in one.curves.items()}
    table = aggregates(episodes)
    write_results(
        out,
        [
            ResultRow(one.system, "iqm_return", one.iqm, (one.high - one.low) / 2, one.dialogues, one.seeds)
            for one in table
        ],
    )
    html = render(
        "report_page.html",
        filters=FILTERS,
        title=" and ".join(one.name for one in runs) if len(runs) < 4 else f"{len(runs)} runs side by side",
        headline=headline(table),
        aggregates=table,
        runs=runs,
        differing=differing(runs),
        figure=curve_figure(out, curves),
        dimensions=dimensions(episodes),
        metrics={one.name: by_metric(one.rows) for one in runs},
        systems=list(episodes),
        blocks=transcript_blocks(shown(config, table, episodes))[: config.transcripts] if episodes else [],
        AGENT=AGENT,
        PARTNER=PARTNER,
    )
    write_text(out / "report.html", html)
    print(headline(table) or "no dialogues among these runs: tables and curves only")
    print(f"page: {out / 'report.html'}")
    return out


def read_run(folder: Path) -> Run:
    """Return what a run folder holds."""
    for name in ("run.json", "results.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no finished run folder: it has no {name}")
    description = json.loads((folder / "run.json").read_text())
    rows = [ResultRow(**row) for row in json.loads((folder / "results.json").read_text())]
    names = LABELS.get(description["verb"], {})
    curves = read_curves(folder, names, description["config"].get("algorithm", ""))
    return Run(folder.name, description, rows, episodes_of(folder, names), curves)


def episodes_of(folder: Path, names: Mapping[str, str]) -> dict[str, list[list[Episode]]]:
    """Return system -> seeds -> dialogues, of one file or of a file a cell and seed."""
    if (folder / EPISODES).is_file():
        found = json.loads((folder / EPISODES).read_text())
        return {name: [[Episode(**one) for one in seed] for seed in seeds] for name, seeds in found.items()}
    files = sorted(folder.glob(f"**/seed_*/{EPISODES}"))
    order = list(names)
    files.sort(key=lambda file: order.index(file.parents[1].name) if file.parents[1].name in order else len(order))
    cells: dict[str, list[list[Episode]]] = {}
    for file in files:
        cell = file.parents[1].name
        cells.setdefault(names.get(cell, cell), []).append(read_episodes(file))
    return cells


def read_curves(folder: Path, names: Mapping[str, str], algorithm: str) -> dict[str, list[Curve]]:
    """Return what was trained -> a curve a seed; in the run folder itself it is the run's algorithm."""
    curves: dict[str, list[Curve]] = {}
    for file in sorted(folder.glob(f"**/seed_*/{CURVE}")):
        place = file.parents[1]
        cell = algorithm if place == folder else place.name
        curves.setdefault(names.get(cell, cell) or folder.name, []).append(read_curve(file))
    return curves


def label(one: Run, name: str, many: bool) -> str:
    """Return a system's name on the page."""
    return f"{one.name}: {name}" if many else name


def scores(seeds: Sequence[Sequence[Episode]]) -> np.ndarray:
    """Return mean returns `(seeds, kinds of scenario)` of dialogues that did not fail; kinds without any are out."""
    kinds = sorted({episode.scenario.partition("/")[0] for group in seeds for episode in group})
    found = np.full((len(seeds), len(kinds)), np.nan)
    for i, group in enumerate(seeds):
        for j, kind in enumerate(kinds):
            of_kind = [e.episode_return for e in group if e.error is None and e.scenario.partition("/")[0] == kind]
            found[i, j] = np.mean(of_kind) if of_kind else np.nan
    return found[:, np.isfinite(found).all(0)]


def aggregates(episodes: Mapping[str, Sequence[Sequence[Episode]]]) -> list[Aggregate]:
    """Return the systems' aggregates in their order, placed on one scale; NaN where every dialogue failed."""
    table, first = [], None
    for system, seeds in episodes.items():
        own = scores(seeds)
        first = own if first is None else first
        iqm, mean, median = (f(own) if own.size else math.nan for f in (interquartile_mean, np.mean, np.median))
        low, high = stratified_ci95(own) if own.size else (math.nan, math.nan)
        alike = own is not first and own.size and own.shape[1] == first.shape[1]
        above = improvement_probability(own, first) if alike else None
        failed = sum(episode.error is not None for group in seeds for episode in group)
        whole = sum(map(len, seeds)) - failed
        table.append(Aggregate(system, iqm, low, high, float(mean), float(median), above, len(seeds), whole, failed))
    return placed(table)


def placed(table: Sequence[Aggregate]) -> list[Aggregate]:
    """Return aggregates with their places on a common scale."""
    ends = [x for one in table for x in (one.iqm, one.low, one.high) if math.isfinite(x)]
    if not ends:
        return list(table)
    margin = 0.06 * (max(ends) - min(ends)) or 1.0
    low, high = min(ends) - margin, max(ends) + margin
    best = max(one.iqm for one in table if math.isfinite(one.iqm))

    def at(x: float, otherwise: float) -> float:
        return 100 * ((x if math.isfinite(x) else otherwise) - low) / (high - low)

    return [
        replace(
            one, at=at(one.iqm, low), low_at=at(one.low, one.iqm), high_at=at(one.high, one.iqm), best=one.iqm == best
        )
        if math.isfinite(one.iqm)
        else one
        for one in table
    ]


def headline(table: Sequence[Aggregate]) -> str:
    """Say in one sentence which system is best, and how sure that is."""
    known = sorted((one for one in table if math.isfinite(one.iqm)), key=lambda one: -one.iqm)
    if len(known) < 2:
        return ""
    best, second = known[:2]
    text = (
        f"{best.system} earns the most: {best.iqm:.2f} a dialogue in the middle half of its seeds and kinds of scenario"
    )
    text += f"; next is {second.system} with {second.iqm:.2f}"
    if not math.isfinite(best.low + second.low):
        return f"{text}. One seed tells nothing of how another training would do."
    apart = best.low > second.high
    return f"{text}; their 95% intervals {'do not overlap' if apart else 'overlap, so this may be chance'}."


def differing(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return setting -> its value in each run, of those that are not the same in all and may change numbers."""
    names = dict.fromkeys(name for one in runs for name in one.description["config"] if name not in OWN)
    found = {name: [one.description["config"].get(name, "–") for one in runs] for name in names}
    return {name: list(map(str, values)) for name, values in found.items() if any(v != values[0] for v in values)}


def curve_figure(out: Path, curves: Mapping[str, Sequence[Curve]]) -> str | None:
    """Draw the curves that have more than one point; return the figure as base64."""
    drawn = {}
    for name, seeds in curves.items():
        steps = [step for step, _ in seeds[0]]
        if len(steps) > 1 and all([step for step, _ in seed] == steps for seed in seeds):
            drawn[name] = (steps, np.array([[np.nanmean(returns) for _, returns in seed] for seed in seeds]))
    if not drawn:
        return None
    path = plot_curves(out / "curves.png", drawn, "environment steps", "return on held-out scenarios")
    return base64.b64encode(path.read_bytes()).decode()


def dimensions(episodes: Mapping[str, Sequence[Sequence[Episode]]]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return part of the score -> system -> mean, and where its bar begins and how wide it is, in percent."""
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    for system, seeds in episodes.items():
        whole = [episode.score for group in seeds for episode in group if episode.error is None]
        for name in whole[0] if whole else ():
            value = float(np.mean([score[name] for score in whole]))
            low, high = DIMENSIONS.get(name, (min(0.0, value), max(1.0, value)))
            zero, at = (100 * (min(max(x, low), high) - low) / (high - low) for x in (0.0, value))
            found.setdefault(name, {})[system] = (value, min(zero, at), abs(at - zero))
    return found


def by_metric(rows: Sequence[ResultRow]) -> dict[str, dict[str, ResultRow]]:
    """Return metric -> system -> row."""
    found: dict[str, dict[str, ResultRow]] = {}
    for row in rows:
        found.setdefault(row.metric, {})[row.system] = row
    return found


def shown(
    config: Config, table: Sequence[Aggregate], episodes: Mapping[str, Sequence[Sequence[Episode]]]
) -> dict[str, list[Episode]]:
    """Return the systems whose transcripts stand side by side, with their first seed's dialogues.

    Raises:
        ValueError: there is no such system.
    """
    unknown = [name for name in config.systems if name not in episodes]
    if unknown:
        raise ValueError(f"no system {unknown[0]!r} among these runs; there are: {', '.join(episodes)}")
    best = next((one.system for one in table if one.best), table[0].system)
    chosen = config.systems or tuple(dict.fromkeys((table[0].system, best)))
    firsts = {name: list(episodes[name][0]) for name in chosen}
    pairs = [{(episode.scenario, episode.seed) for episode in dialogues} for dialogues in firsts.values()]
    if not set.intersection(*pairs):  # other scenarios or seeds: nothing can stand side by side
        return {chosen[0]: firsts[chosen[0]]}
    return firsts
