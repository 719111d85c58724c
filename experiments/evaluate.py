"""Compare policies on held-out scenarios: the same scenarios and seeds for all, intervals over episodes and seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from agents.baselines import RandomPolicy, ZeroPolicy
from agents.sb3 import CHECKPOINT as SB3_CHECKPOINT
from agents.sb3 import load_sb3
from dialog_envs import scenarios
from dialog_envs.envs.dat import load_lm
from experiments import presets, train
from experiments.episodes import Episode, Policy, paired_design, run_episodes
from experiments.fixed_action import action_dim
from experiments.language import panel
from experiments.page import write_transcript_page
from experiments.run_folder import ResultRow, model_files, open_run, write_json, write_results
from experiments.statistics import clustered_ci95
from experiments.train import ENV_ID, LOADERS, POLICY, sb3_policy

PLANNER_VIEW = ("lm", "up_map", "past_actions")


@dataclass(frozen=True)
class Config:
    """Run policies on the same dialogues and write a table and a page of transcripts."""

    policies: tuple[str, ...] = ("unsteered", "random", "clone")
    """`unsteered`, `random`, `clone` (the zero action on the self-cloned mapping), a run folder that
    `python -m experiments train` wrote, or a saved policy."""
    out: Path = Path("runs/evaluate")
    """Run folder."""
    lm: str = "pocket"
    """`pocket`, a model folder, or a Hugging Face name."""
    partner_lm: str | None = None
    """Another model for the partner (default: the same)."""
    up_map: str = "latent"
    """Up-mapping of `random` and of policy files; a run folder knows its own."""
    scenarios: str = "heldout"
    """Which scenarios."""
    max_turns: int = 4
    """Agent turns a dialogue."""
    past_actions: int = train.Settings.past_actions
    """How many of its own last actions a policy file sees, as it was trained; a run folder knows its own."""
    episodes: int = 102
    """Dialogues a seed."""
    seeds: int = 3
    """Seeds of the dialogues."""
    rows: int = 64
    """Dialogues at a time."""
    device: str = "cpu"
    """Where the models lie."""
    dtype: str = "float32"
    """Of their weights."""

    @classmethod
    def of(cls, settings: train.Settings, **more: Any) -> Config:
        """Return how planners of these settings are played: on held-out scenarios, seeing what they were shown."""
        names = ("lm", "max_turns", "past_actions", "device", "dtype")
        return cls(scenarios=settings.heldout, **{name: getattr(settings, name) for name in names}, **more)

    def env(self, **more: Any) -> dict[str, Any]:
        """Return the environment's arguments."""
        names = ("lm", "partner_lm", "up_map", "scenarios", "max_turns", "past_actions", "device", "dtype")
        return {name: getattr(self, name) for name in names} | more


@dataclass(frozen=True)
class System:
    """Something to compare: environment arguments and one policy a seed."""

    arguments: Mapping[str, Any]
    policies: Sequence[Policy]


def run(config: Config) -> Path:
    """Evaluate, print and write the table; return the run folder."""
    out = open_run(config.out, "evaluate", config, model_files(config.lm))
    systems = {Path(name).name: find_system(name, config) for name in config.policies}
    episodes = {name: evaluate(system, config.episodes, config.rows, name) for name, system in systems.items()}
    rows = table(episodes, load_lm(config.lm, config.device, config.dtype), scenarios.load(config.scenarios))
    write_results(out, rows)
    write_episodes(out, episodes)
    firsts = {name: per_seed[0] for name, per_seed in episodes.items()}
    facts = {"scenarios": config.scenarios, "episodes a seed": str(config.episodes)}
    write_transcript_page(out / "transcripts.html", "Transcripts", firsts, rows, None, facts)
    print_table(rows)
    return out


def find_system(name: str, config: Config) -> System:
    """Return the system of a name, a run folder or a policy file.

    Raises:
        ValueError: it is none of them, or its planners were trained on another model.
    """
    if name in ("unsteered", "clone"):
        arguments = config.env(up_map="none" if name == "unsteered" else "clone")
        return System(arguments, [ZeroPolicy(action_dim(arguments))] * config.seeds)
    if name == "random":
        size = action_dim(config.env())
        space = gym.spaces.Box(-1.0, 1.0, (size,), np.float32)
        return System(config.env(), [RandomPolicy(space, seed, "sphere") for seed in range(config.seeds)])
    policies, bound = load_policies(Path(name)), planner_view(Path(name))
    if bound.get("lm", config.lm) != config.lm:
        raise ValueError(f"the planners of {name} were trained on lm {bound['lm']!r}, expected {config.lm!r} (--lm)")
    return System(config.env(**bound), [policies[seed % len(policies)] for seed in range(config.seeds)])


def trained_with(path: Path | None) -> dict[str, Any]:
    """Return the configuration that a run folder of planners was begun with; nothing for a policy file."""
    described = None if path is None else path / "run.json"
    return json.loads(described.read_text())["config"] if described and described.is_file() else {}


def planner_view(path: Path | None) -> dict[str, Any]:
    """Return the environment's arguments that the planners of a run folder are bound to: model, mapping, past actions.

    Nothing for a policy file, and for a run by a preset, whose arguments are the environment's own.
    """
    training = trained_with(path)
    return {} if training.get("preset") else {name: training[name] for name in PLANNER_VIEW if name in training}


def load_policies(path: Path) -> list[Policy]:
    """Return the policies of a run folder of `train` as they are played, one a seed, or that of a file, without noise.

    Raises:
        ValueError: there is none.
    """
    training = trained_with(path)
    if training.get("preset"):
        return presets.load_policies(path)
    found = _saved_policies(path)
    if not training.get("play_noise"):
        return found
    return [train.as_played(policy, train.Config(**training), seed) for seed, policy in enumerate(found)]


def _saved_policies(path: Path) -> list[Policy]:
    if path.is_file():
        return [LOADERS.get(path.name, LOADERS[POLICY])(path)]
    online = sorted(file.parent for file in path.glob(f"**/{SB3_CHECKPOINT}"))
    if online:
        trained = train.Config(**json.loads((path / "run.json").read_text())["config"])
        env = gym.make_vec(ENV_ID, num_envs=trained.rows, **trained.env())  # a checkpoint fits its own environment
        return [sb3_policy(load_sb3(folder, env)) for folder in online]
    for name, load in LOADERS.items():
        if files := sorted(path.glob(f"**/{name}")):
            return [load(file) for file in files]
    raise ValueError(f"policy is {str(path)!r}, expected unsteered, random, clone, a run folder or a policy file")


def evaluate(system: System, episodes: int, rows: int, name: str) -> list[list[Episode]]:
    """Run `episodes` dialogues for each policy of a system, seed by seed; one that fails carries its error."""
    return [
        evaluate_seed(system.arguments, policy, episodes, seed, rows, f"{name}, seed {seed}")
        for seed, policy in enumerate(system.policies)
    ]


def evaluate_seed(
    arguments: Mapping[str, Any], policy: Policy, episodes: int, seed: int, rows: int, label: str
) -> list[Episode]:
    """Run `episodes` dialogues of one policy: the same scenarios and dice for every policy of this seed."""
    if hasattr(policy, "reset"):
        policy.reset(seed)
    ids = [scenario.id for scenario in scenarios.load(arguments["scenarios"])]
    chosen, seeds = paired_design(ids, episodes, seed)
    return run_episodes(arguments, policy, chosen, seeds, rows=rows, progress=label)


def table(episodes: Mapping[str, list[list[Episode]]], lm: Any, known: Sequence[Any]) -> list[ResultRow]:
    """Return the rows of a comparison: return, the score's parts, language; and each system's gain over the first.

    Failed dialogues are in no number but `failed_episodes`; `n` counts the others.
    """
    rows, first = [], next(iter(episodes))
    for name, per_seed in episodes.items():
        whole = [episode for group in per_seed for episode in group if episode.error is None]
        failed = sum(map(len, per_seed)) - len(whole)
        size = (len(whole), len(per_seed))
        for metric in ("episode_return", *(whole[0].score if whole else ())):
            rows.append(ResultRow(name, metric, *clustered_ci95(values(per_seed, metric)), *size))
        if name != first and len(per_seed) == len(episodes[first]):
            gain = values(per_seed, "episode_return") - values(episodes[first], "episode_return")
            rows.append(ResultRow(name, f"gain_over_{first}", *clustered_ci95(gain), *size))
        rows += [ResultRow(name, metric, value, None, *size) for metric, value in panel(whole, lm, known).items()]
        rows.append(ResultRow(name, "failed_episodes", failed, None, *size))
    return rows


def write_episodes(out: Path, episodes: Mapping[str, list[list[Episode]]]) -> None:
    """Write every dialogue, by system and seed, to `episodes.json`."""
    plain = {name: [[vars(e) for e in group] for group in per_seed] for name, per_seed in episodes.items()}
    write_json(out / "episodes.json", plain)


def print_table(rows: Sequence[ResultRow], metrics: Sequence[str] = ("episode_return", "goal", "perplexity")) -> None:
    """Print chosen metrics, a system a line."""
    systems = list(dict.fromkeys(row.system for row in rows))
    found = {(row.system, row.metric): row for row in rows}
    width = max(map(len, systems)) + 2
    print(f"{'system':<{width}}" + "".join(f"{metric:>20}" for metric in metrics) + f"{'episodes':>10}{'seeds':>7}")
    for system in systems:
        cells = [found.get((system, metric)) for metric in metrics]
        if cells[0] is None:
            continue
        shown = ["" if c is None else f"{c.value:.2f}" + ("" if c.ci95 is None else f" +- {c.ci95:.2f}") for c in cells]
        print(f"{system:<{width}}" + "".join(f"{text:>20}" for text in shown) + f"{cells[0].n:>10}{cells[0].seeds:>7}")


def values(per_seed: Sequence[Sequence[Episode]], metric: str) -> np.ndarray:
    """Return `(seeds, episodes)` of `"episode_return"` or a part of the score; NaN for an episode that failed."""

    def value(episode: Episode) -> float:
        if episode.error is not None:
            return np.nan
        return episode.episode_return if metric == "episode_return" else episode.score[metric]

    return np.array([[value(episode) for episode in group] for group in per_seed], dtype=float)
