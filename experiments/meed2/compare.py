"""Who chooses the intent best in EmpathyIntent: MEED2's predictor, fixed rules, chance, or a policy learned by PPO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import dialog_envs  # noqa: F401  (registers the ids)
from agents.sb3 import make_sb3, train_sb3
from dialog_envs import scenarios
from dialog_envs.envs.empathy_intent import LAST, PREDICTED
from dialog_envs.speakers.meed2 import POCKET as MEED2
from experiments.comparison import paired_row
from experiments.episodes import Episode, Policy, paired_design, read_episodes, run_episodes, save_episodes
from experiments.evaluate import print_table, values, write_episodes
from experiments.page import write_transcript_page
from experiments.plots import plot_bars
from experiments.run_folder import ResultRow, model_files, open_run, write_results
from experiments.statistics import clustered_ci95
from experiments.train import sb3_policy
from reward_models.dmi.encoder import POCKET as ENCODER
from reward_models.emotion import POCKET as EMOTION
from reward_models.emotion_labels import LABELS
from reward_models.utterance_judge import POCKET as HARM

ENV_ID = "DialogEnvs/EmpathyIntent-v0"
FIRST, LEARNED = "predictor", "ppo"
DIFFERENCE = "minus_predictor"
QUESTIONING = LABELS.index("questioning")


@dataclass(frozen=True)
class Config:
    """Train PPO and play all on the same held-out dialogues; a killed run goes on."""

    out: Path = Path("runs/meed2_compare")
    """Run folder."""
    systems: tuple[str, ...] = (FIRST, "questioning", "mirror", "random", LEARNED)
    """What to compare; differences are from the predictor's own choice, which is always among them."""
    meed2: str = "pocket"
    """The replies' model, as the environment takes it; so are the next four."""
    emotion: str = "pocket"
    """The classifier of emotions."""
    coherence: str = "pocket"
    """The coherence reward."""
    harm: str = "pocket"
    """The harm judge."""
    lm: str = "pocket"
    """The partner's model."""
    scenarios: str = "comfort/train"
    """Scenarios that are learned from."""
    heldout: str = "comfort/heldout"
    """Scenarios that are played."""
    max_turns: int = 4
    """Agent turns a dialogue."""
    max_new_tokens: int = 24
    """Longest reply, of both sides."""
    transitions: int = 10_240
    """Environment steps of PPO, a seed."""
    rollout: int = 16
    """Turns of each row between two updates of PPO."""
    learning_rate: float = 1e-3
    """Of PPO."""
    entropy: float = 0.01
    """Weight of PPO's entropy bonus."""
    rows: int = 64
    """Dialogues at a time."""
    episodes: int = 150
    """Held-out dialogues a seed."""
    seeds: int = 3
    """Trainings, and sets of dialogues."""
    threads: int = 2
    """CPU threads."""

    def env(self, **more: Any) -> dict[str, Any]:
        """Return the environment's arguments for training."""
        names = ("meed2", "emotion", "coherence", "harm", "lm", "scenarios", "max_turns", "max_new_tokens")
        return {name: getattr(self, name) for name in names} | more


POLICIES: dict[str, Callable[[int], Policy]] = {  # seed -> observations to actions
    FIRST: lambda seed: lambda observations: observations[:, PREDICTED].argmax(1),
    "questioning": lambda seed: lambda observations: np.full(len(observations), QUESTIONING),
    "mirror": lambda seed: lambda observations: observations[:, LAST].argmax(1),
    "random": lambda seed: _random(np.random.default_rng(seed)),
}


def run(config: Config) -> Path:
    """Play every system that has not been played; write results, the plot and transcripts.

    Raises:
        ValueError: a system is unknown, or the folder was begun with other settings.
    """
    for name in config.systems:
        if name not in (*POLICIES, LEARNED):
            raise ValueError(f"unknown system {name!r}, expected some of {', '.join((*POLICIES, LEARNED))}")
    torch.set_num_threads(config.threads)
    out = open_run(config.out, "meed2 compare", config, weights(config), ("out", "systems", "seeds", "threads"))
    names = dict.fromkeys((FIRST, *config.systems))
    episodes = {name: [play(config, name, seed) for seed in range(config.seeds)] for name in names}
    rows = table(episodes)
    write_results(out, rows)
    write_episodes(out, episodes)
    plot_bars(out / "returns.png", rows, "episode_return")
    shown = {name: episodes[name][0][:12] for name in episodes if name in (FIRST, LEARNED)}
    facts = {"scenarios": config.heldout, "dialogues a seed": str(config.episodes)}
    write_transcript_page(out / "transcripts.html", "EmpathyIntent", shown, rows, out / "returns.png", facts)
    print_table(rows, ("episode_return", DIFFERENCE, "valence_change"))
    return out


def weights(config: Config) -> list[Path]:
    """Return the files that results hang on."""
    shipped = {"meed2": MEED2, "emotion": EMOTION, "coherence": ENCODER, "harm": HARM}
    named = {name: getattr(config, name) for name in shipped}
    folders = [str(shipped[name] if given == "pocket" else given) for name, given in named.items()]
    return [*model_files(config.lm), *(path for folder in folders for path in model_files(folder))]


def play(config: Config, name: str, seed: int) -> list[Episode]:
    """Return a system's dialogues of one seed, played where that is not done."""
    path = config.out / name / f"seed_{seed}" / "episodes.json"
    if not path.exists():
        policy = learn(config, seed, path.parent) if name == LEARNED else POLICIES[name](seed)
        known = [scenario.id for scenario in scenarios.load(config.heldout)]
        design = paired_design(known, config.episodes, seed)
        arguments = config.env(scenarios=config.heldout)
        save_episodes(path, run_episodes(arguments, policy, *design, ENV_ID, config.rows, name))
    return read_episodes(path)


def learn(config: Config, seed: int, folder: Path) -> Policy:
    """Train PPO, or go on training; return its policy."""
    env = gym.make_vec(ENV_ID, num_envs=config.rows, **config.env())
    settings = {"n_steps": config.rollout, "learning_rate": config.learning_rate, "ent_coef": config.entropy}
    model = make_sb3("PPO", env, seed, **settings)
    train_sb3(model, config.transitions, max(1, config.transitions // 5), folder)
    env.close()
    return sb3_policy(model)


def table(episodes: dict[str, list[list[Episode]]]) -> list[ResultRow]:
    """Return each system's return and its parts, and its difference from the predictor, dialogue by dialogue.

    Dialogues that failed are in no number but `failed_episodes`.
    """
    rows = []
    for name, per_seed in episodes.items():
        whole = [episode for group in per_seed for episode in group if episode.error is None]
        size = (len(whole), len(per_seed))
        for metric in ("episode_return", *(whole[0].score if whole else ())):
            rows.append(ResultRow(name, metric, *clustered_ci95(values(per_seed, metric)), *size))
        if name != FIRST:
            gain = values(per_seed, "episode_return") - values(episodes[FIRST], "episode_return")
            rows.append(paired_row(name, DIFFERENCE, gain))
        rows.append(ResultRow(name, "failed_episodes", sum(map(len, per_seed)) - len(whole), None, *size))
    return rows


def _random(generator: np.random.Generator) -> Policy:
    return lambda observations: generator.integers(len(LABELS), size=len(observations))
