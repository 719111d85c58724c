"""What the cells found: rows with intervals, and what they say of the questions that the DAT paper leaves open.

Every sentence is made from the measured numbers of this run folder; for a sweep that is missing it names the command.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from experiments.comparison import paired_row
from experiments.episodes import Episode, read_episodes
from experiments.evaluate import values
from experiments.run_folder import ResultRow
from experiments.statistics import clustered_ci95, mean_ci95
from experiments.sweep.cells import COHERENCE, COST, EPISODES, LANGUAGE, folder_of
from experiments.sweep.config import CELLS, REINFORCE, SWEEPS, UNSTEERED, VALUES, Config

RETURN, GAIN = "episode_return", f"gain_over_{UNSTEERED}"
LANGUAGE_MEASURES = {"perplexity": "perplexity under the unsteered model", "distinct_2": "Distinct-2"}
LANGUAGE_MEASURES |= {COHERENCE: "coherence"}
CLONED_FROM = {"cloned": "latent", "cloned_map": "latent", "cloned_pca": "pca"}
QUESTIONS = (
    "How large must the action be, and where should it stand?",
    "Does a frozen model keep its language while its reward grows, where one whose own weights learn loses it?",
    "Is TD3+BC from a self-cloned start the way to learn, or do other algorithms, or no self-cloning, do as well?",
)


@dataclass(frozen=True)
class Measured:
    """A cell: its dialogues, seed by seed, what their language measured, and what a seed took in CPU minutes."""

    label: str
    episodes: Sequence[Sequence[Episode]]
    language: Sequence[Mapping[str, float]]
    minutes: Sequence[float]

    def returns(self) -> np.ndarray:
        """Return `(seeds, episodes)`, NaN for what failed."""
        return values(self.episodes, RETURN)

    def measure(self, name: str) -> tuple[float, float]:
        """Return a language measure's mean over seeds and half its 95% interval; NaN where it was not measured."""
        return mean_ci95(self.by_seed(name))

    def by_seed(self, name: str) -> np.ndarray:
        """Return a language measure, `(seeds,)`; NaN where it was not measured."""
        return np.array([of_seed.get(name, float("nan")) for of_seed in self.language])


Found = Mapping[str, Measured]  # by key


def collect(config: Config, keys: Sequence[str]) -> Found:
    """Read what the cells of these keys found."""
    found = {}
    for key in keys:
        folders = [folder_of(config, key, seed) for seed in range(config.seeds)]
        costs = [_json(folder / COST)["cpu_minutes"] for folder in folders if (folder / COST).exists()]
        episodes = [read_episodes(folder / EPISODES) for folder in folders]
        found[key] = Measured(CELLS[key].label, episodes, [_json(folder / LANGUAGE) for folder in folders], costs)
    return found


def result_rows(found: Found) -> list[ResultRow]:
    """Return all rows: return, gain over the unsteered model, the score's parts, language, cost."""
    rows = []
    for cell in found.values():
        whole = [episode for group in cell.episodes for episode in group if episode.error is None]
        size = (len(whole), len(cell.episodes))
        for metric in (RETURN, *(whole[0].score if whole else ())):
            rows.append(ResultRow(cell.label, metric, *clustered_ci95(values(cell.episodes, metric)), *size))
        if cell is not found.get(UNSTEERED, cell):
            rows.append(paired_row(cell.label, GAIN, difference(cell, found[UNSTEERED])))
        for metric in cell.language[0]:
            rows.append(ResultRow(cell.label, metric, *cell.measure(metric), *size))
        failed = sum(map(len, cell.episodes)) - len(whole)
        rows.append(ResultRow(cell.label, "failed_episodes", failed, None, *size))
        if cell.minutes:
            rows.append(ResultRow(cell.label, "cpu_minutes", *mean_ci95(cell.minutes), len(cell.minutes), size[1]))
    return rows


def difference(one: Measured, other: Measured) -> np.ndarray:
    """Return the returns of one less those of another, dialogue by dialogue, `(seeds, episodes)`."""
    return one.returns() - other.returns()


def answers(found: Found) -> dict[str, list[str]]:
    """Return question -> sentences, made of what was measured."""
    told = {name: [key for key in sweep.cells if key in found] for name, sweep in SWEEPS.items()}
    missing = {name for name, sweep in SWEEPS.items() if len(told[name]) < len(sweep.cells)}

    def of(*names: str) -> list[str]:
        sentences = []
        for name in names:
            if name in missing:
                sentences.append(f"{SWEEPS[name].title}: not measured; `python -m experiments sweep {name}` does it.")
            else:
                sentences.append(about(name, {key: found[key] for key in told[name]}, found[UNSTEERED]))
        return sentences

    language = of("algorithm") if "algorithm" in missing else about_language(found)
    cloned = [] if "self_cloning" in missing else [about_cloning(found)]
    return dict(
        zip(
            QUESTIONS,
            (
                of("action_dim", "prefix_length", "position", "up_map"),
                language,
                of("algorithm", "self_cloning") + cloned,
            ),
            strict=True,
        )
    )


def about(name: str, cells: Found, unsteered: Measured) -> str:
    """Return which cell of a sweep is best, which others can be told from it, and the trend along its axis."""
    title = SWEEPS[name].title
    ranked = sorted(cells.values(), key=lambda cell: -np.nanmean(cell.returns()))
    best, *others = ranked
    said = [
        f"{title}: of {len(cells)} cells {best.label} has the highest return, {pm(clustered_ci95(best.returns()))}; "
        f"its gain over the unsteered model is {with_zero(clustered_ci95(difference(best, unsteered)))}."
    ]
    below, alike = [], []
    for other in others:
        gap, half = clustered_ci95(difference(best, other))
        (below if gap > half else alike).append(other.label)
    if below:
        said.append(f"It is clearly above {listed(below)}.")
    if alike:
        said.append(f"It cannot be told from {listed(alike)}: the interval of the difference holds zero.")
    if name in VALUES:
        points = [(value, np.nanmean(row)) for value, cell in zip(VALUES[name], cells.values(), strict=True)
                  for row in cell.returns()]  # fmt: skip
        rho, p = stats.spearmanr(*zip(*points, strict=True))
        clear = "a trend" if p < 0.05 else "no clear trend"
        said.append(
            f"Along {SWEEPS[name].axis} the seeds' returns show {clear} (rank correlation {rho:.2f}, p = {p:.2g})."
        )
    return " ".join(said)


def about_cloning(found: Found) -> str:
    """Return what each self-cloned cell earns more than the one that it was cloned from."""
    pairs = [(found[key], found[start]) for key, start in CLONED_FROM.items() if key in found and start in found]
    gains = [f"{a.label} over {b.label} {with_zero(clustered_ci95(difference(a, b)))}" for a, b in pairs]
    return "What self-cloning adds to the return: " + "; ".join(gains) + "."


def about_language(found: Found) -> list[str]:
    """Return what the reward of steered models, and of one whose own weights were optimised, cost in language."""
    unsteered = found[UNSTEERED]
    own = [key for key in SWEEPS["algorithm"].cells if CELLS[key].algorithm == REINFORCE]
    steered = [key for key in SWEEPS["algorithm"].cells if key not in own]
    said = []
    for kind, keys in (("steered", steered), ("own weights", own)):
        best = max((found[key] for key in keys), key=lambda cell: np.nanmean(cell.returns()))
        gain = with_zero(clustered_ci95(difference(best, unsteered)))
        said.append(f"Best with {kind}: {best.label}, gain {gain}; " + "; ".join(shifts(best, unsteered)) + ".")
    return said


def shifts(cell: Measured, unsteered: Measured) -> list[str]:
    """Return how each measure of language of a cell stands to the unsteered model's, seed by seed.

    Cells of one seed play the same scenarios with the same dice, so what counts is the interval of the difference.
    """
    said = []
    for name, label in LANGUAGE_MEASURES.items():
        gap = mean_ci95(cell.by_seed(name) - unsteered.by_seed(name))
        if np.isfinite(gap[0]):
            pair = f"{pm(cell.measure(name))} against {pm(unsteered.measure(name))} unsteered"
            said.append(f"{label} {pair}, a difference of {with_zero(gap)}")
    return said


def pm(interval: tuple[float, float]) -> str:
    """Return a mean with its interval."""
    mean, half = interval
    return f"{mean:.2f}" + (f" ± {half:.2f}" if np.isfinite(half) else "")


def with_zero(interval: tuple[float, float]) -> str:
    """Return a difference with its interval, and whether zero is in it; of one seed that cannot be told."""
    if not np.isfinite(interval[1]):
        return f"{pm(interval)} (one seed: whether it is zero cannot be told)"
    return f"{pm(interval)} ({'zero excluded' if abs(interval[0]) > interval[1] else 'zero not excluded'})"


def listed(names: Sequence[str]) -> str:
    """Return names as a list in words."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _json(path: Path) -> dict[str, float]:
    return json.loads(path.read_text())
