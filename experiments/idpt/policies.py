"""Who is to choose the initiative of each turn: PPO, DQN, the recogniser, one initiative always, or chance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from agents.sb3 import make_sb3, train_sb3
from dialog_envs.corpora.initiative import INITIATIVES
from dialog_envs.envs.initiative import chosen_scenarios
from dialog_envs.speakers.idpt import POCKET, SETTINGS, WEIGHTS
from experiments.episodes import Episode, Policy, paired_design, read_episodes, run_episodes, save_episodes
from experiments.evaluate import print_table, values
from experiments.idpt import data
from experiments.idpt.report import compared
from experiments.plots import plot_bars
from experiments.run_folder import ResultRow, model_files, open_run, write_results, write_text
from experiments.statistics import crossed_ci95
from experiments.train import sb3_policy

ENV_ID = "DialogEnvs/Initiative-v0"
CONSTANTS = {f"always {label}": number for number, label in enumerate(INITIATIVES)}
RECOGNISER, RANDOM, PPO = "recogniser", "random", "PPO"
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    PPO: {"learning_rate": 1e-3, "ent_coef": 0.01},
    "DQN": {"learning_rate": 5e-4, "learning_starts": 500, "target_update_interval": 50, "exploration_fraction": 0.5},
}
SEGMENTS = 4  # checkpoints of a training


@dataclass(frozen=True)
class Config:
    """Compare who chooses the initiatives, on held-out scenarios; a stopped run goes on."""

    out: Path = Path("runs/idpt_policies")
    """Run folder."""
    initiatives: Path = POCKET
    """The set: the shipped one, or the folder `model` of a run of `idpt train`."""
    coherence: str = "pocket"
    """The coherence reward's folder; `none` leaves it out."""
    partner_lm: str = "pocket"
    """The seeker's model."""
    algorithms: tuple[str, ...] = tuple(OVERRIDES)
    """What learns to choose."""
    steps: int = 12_000
    """Turns that each learner is trained on, on the training scenarios."""
    rows: int = 32
    """Dialogues at a time."""
    episodes: int = 96
    """Held-out dialogues a seed; the scenarios are all as frequent as the others."""
    seeds: int = 3
    """Seeds of learners and dice."""
    max_turns: int = 6
    """Agent turns a dialogue."""
    device: str = "cpu"
    """Where the models run, as torch names it."""
    threads: int = 2
    """CPU threads."""

    def env(self, **more: Any) -> dict[str, Any]:
        """Return the environment's arguments."""
        names = ("coherence", "partner_lm", "max_turns", "device")
        return {"initiatives": str(self.initiatives)} | {name: getattr(self, name) for name in names} | more


def run(config: Config) -> Path:
    """Train, evaluate, print and write tables, plot and transcripts; return the run folder.

    Raises:
        ValueError: an algorithm is unknown, or the folder holds a run with other settings.
    """
    unknown = [name for name in config.algorithms if name not in OVERRIDES]
    if unknown:
        raise ValueError(f"unknown algorithm {unknown[0]!r}, expected some of {', '.join(OVERRIDES)}")
    torch.set_num_threads(config.threads)
    sources = [config.initiatives / WEIGHTS, *model_files(config.partner_lm)]
    free = ("algorithms", "seeds", "threads", "rows", "device")
    out = open_run(config.out, "idpt policies", config, sources, changeable=free)
    episodes = {}
    for name in (RECOGNISER, *CONSTANTS, RANDOM, *config.algorithms):
        episodes[name] = [evaluated(config, out, name, seed) for seed in range(config.seeds)]
    rows, note = table(episodes), note_on(config.initiatives)
    said = f"{verdict(rows)}\n{note}"
    write_results(out, rows)
    write_text(out / "verdict.txt", said + "\n")
    plot_bars(out / "returns.png", rows, "episode_return")
    write_text(out / "transcripts.md", f"{note}\n\n{transcripts(episodes)}")
    print_table(rows, ("episode_return", "accepted", "coherence", "turns"))
    print(said)
    return out


def evaluated(config: Config, out: Path, name: str, seed: int) -> list[Episode]:
    """Return a system's held-out episodes of a seed, from the file where they were run already."""
    path = out / "episodes" / f"{name.replace(' ', '_')}_{seed}.json"
    if not path.exists():
        arguments = config.env(scenarios="heldout", chooser="recogniser" if name == RECOGNISER else "agent")
        ids = [scenario.id for scenario in chosen_scenarios("heldout")]
        chosen, _ = paired_design(ids, config.episodes, 0)  # every seed meets the same scenarios
        _, seeds = paired_design(ids, config.episodes, seed)
        policy = policy_of(config, out, name, seed)
        label = f"{name}, seed {seed}"
        save_episodes(path, run_episodes(arguments, policy, chosen, seeds, ENV_ID, config.rows, label))
    return read_episodes(path)


def policy_of(config: Config, out: Path, name: str, seed: int) -> Policy:
    """Return what chooses; a learner is trained, or goes on, where that is not done."""
    if name in config.algorithms:
        return learned(config, out / "learners" / f"{name}_{seed}", name, seed)
    if name == RANDOM:
        rng = np.random.default_rng(seed)
        return lambda observations: rng.integers(len(INITIATIVES), size=len(observations))
    number = CONSTANTS.get(name, 0)  # the recogniser takes no notice of it
    return lambda observations: np.full(len(observations), number)


def learned(config: Config, folder: Path, algorithm: str, seed: int) -> Policy:
    """Return the greedy policy of a learner, trained on the training scenarios with the return's increments."""
    env = gym.make_vec(ENV_ID, num_envs=config.rows, **config.env(scenarios="train", dense_reward=True))
    model = make_sb3(algorithm, env, seed, **OVERRIDES[algorithm])
    train_sb3(model, config.steps, max(1, config.steps // SEGMENTS), folder)
    return sb3_policy(model)


def table(episodes: Mapping[str, list[list[Episode]]]) -> list[ResultRow]:
    """Return the rows: return, acceptance, the reward's parts, and each system's gain over the best constant.

    The best constant is the one that does best on these very dialogues, which favours it. Intervals cover scenarios,
    on each of which there are several dialogues, and seeds. A dialogue that failed in one seed is in no number but
    `failed_episodes`.
    """
    returns = {name: values(episodes[name], "episode_return") for name in CONSTANTS}
    best = max(CONSTANTS, key=lambda name: np.nanmean(returns[name]))
    rows = []
    for name, per_seed in episodes.items():
        scenarios = [episode.scenario for episode in per_seed[0]]
        failed = sum(episode.error is not None for group in per_seed for episode in group)
        size = (sum(map(len, per_seed)) - failed, len(per_seed))
        metrics = ("episode_return", "decision", "coherence", "turns")
        measures = {"accepted": accepted(per_seed)} | {metric: values(per_seed, metric) for metric in metrics}
        if name != best:
            measures[f"gain_over_{best.replace(' ', '_')}"] = measures["episode_return"] - returns[best]
        rows += [ResultRow(name, metric, *crossed_ci95(value, scenarios), *size) for metric, value in measures.items()]
        rows.append(ResultRow(name, "failed_episodes", failed, None, *size))
    return rows


def transcripts(episodes: Mapping[str, list[list[Episode]]], count: int = 4) -> str:
    """Return the first dialogues of each system's first seed: the same scenarios and dice."""
    lines = []
    for number in range(min(count, *(len(per_seed[0]) for per_seed in episodes.values()))):
        for name, per_seed in episodes.items():
            episode = per_seed[0][number]
            lines += [f"## {episode.scenario}, {name}: {episode.outcome}, return {episode.episode_return:.2f}", ""]
            lines += [*(f"- {speaker}: {text}" for speaker, text in episode.turns), ""]
    return "\n".join(lines)


def accepted(per_seed: list[list[Episode]]) -> np.ndarray:
    """Return `(seeds, episodes)`: 1 where the partner accepted, 0 where not, NaN where the episode failed."""
    return np.array([[np.nan if e.error else float(e.outcome == "goal") for e in group] for group in per_seed])


def verdict(rows: list[ResultRow]) -> str:
    """Say whether PPO's and the recogniser's choices beat the best constant one, and how far the worst one is below it.

    Where the constants are not told from one another, the choice matters little, and nobody can win much by it.
    """
    found = {row.system: row for row in rows if row.metric.startswith("gain_over_")}
    worst = min((name for name in found if name in CONSTANTS), key=lambda name: found[name].value)
    lines = [] if PPO in found else ["PPO was not compared."]
    for name in (PPO, RECOGNISER, worst):
        if name in found:
            best = found[name].metric.removeprefix("gain_over_").replace("_", " ")
            lines.append(f"{compared(name, f'the best constant choice ({best})', found[name], 3)}.")
    return "\n".join(lines)


def note_on(folder: Path) -> str:
    """Say what labels a set learned its initiatives from."""
    learned_from = json.loads((folder / SETTINGS).read_text())["trained_on"]
    return f"What prefixes and recogniser learned from: {data.label_note(learned_from)}"
