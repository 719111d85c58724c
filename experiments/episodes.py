"""Whole episodes under a policy, in batch, on given scenarios and seeds: what every table and transcript is made of."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv
from tqdm import tqdm

import dialog_envs  # noqa: F401  (registers the ids)
from experiments.run_folder import write_json

Policy = Callable[[np.ndarray], np.ndarray]  # observations (N, H) -> actions (N, d')


@dataclass
class Episode:
    """One dialogue from reset to end.

    Attributes:
        scenario: the scenario's id.
        seed: what the row was seeded with.
        turns: (speaker, text) in order, the partner's opening first.
        rewards: one an agent turn.
        score: the judgement's named numbers at the end (for the social score: its seven dimensions).
        scores: the same after each agent turn.
        outcome: `"goal"`, `"goodbye"`, `"turn_limit"`, or None where the episode failed.
        error: what failed; a failed episode belongs in no average.
        actions: that of each agent turn, where actions are numbers.
    """

    scenario: str
    seed: int
    turns: list[tuple[str, str]] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    scores: list[Mapping[str, float]] = field(default_factory=list)
    outcome: str | None = None
    error: str | None = None
    actions: list[int] = field(default_factory=list)

    @property
    def episode_return(self) -> float:
        """Sum of rewards."""
        return float(sum(self.rewards))

    @property
    def score(self) -> Mapping[str, float]:
        """The judgement's named numbers at the end."""
        return self.scores[-1] if self.scores else {}


def save_episodes(path: Path, episodes: Sequence[Episode]) -> list[Episode]:
    """Write dialogues to a file, whose folder is made; return them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, [vars(episode) for episode in episodes])
    return list(episodes)


def read_episodes(path: Path) -> list[Episode]:
    """Return the dialogues of a file."""
    return [Episode(**episode) for episode in json.loads(path.read_text())]


def run_episodes(
    env_arguments: Mapping[str, Any],
    policy: Policy,
    scenario_ids: Sequence[str],
    seeds: Sequence[int],
    env_id: str = "DialogEnvs/DATSocial-v0",
    rows: int = 64,
    progress: str | None = None,
) -> list[Episode]:
    """Run one episode for each (scenario, seed) pair, at most `rows` at a time, in batches of like size.

    Pairs are the same dialogue partner and dice under every policy, so that systems can be compared episode by
    episode.
    """
    if len(scenario_ids) != len(seeds):
        raise ValueError(f"{len(scenario_ids)} scenarios for {len(seeds)} seeds")
    rows = math.ceil(len(seeds) / math.ceil(len(seeds) / rows))
    env = gym.make_vec(env_id, num_envs=rows, autoreset_mode="disabled", **env_arguments)
    episodes: list[Episode] = []
    with tqdm(total=len(seeds), desc=progress, unit="episode", disable=progress is None, leave=False) as bar:
        for first in range(0, len(seeds), rows):
            chosen = [i % len(seeds) for i in range(first, first + rows)]  # the last batch is filled up and cut
            batch = _one_batch(env, policy, [scenario_ids[i] for i in chosen], [int(seeds[i]) for i in chosen])
            batch = batch[: len(seeds) - first]
            episodes += batch
            bar.update(len(batch))
    env.close()
    return episodes


def _one_batch(env: VectorEnv, policy: Policy, scenario_ids: list[str], seeds: list[int]) -> list[Episode]:
    observations, _ = env.reset(seed=seeds, options={"scenario": scenario_ids})
    episodes = [Episode(scenario, seed) for scenario, seed in zip(scenario_ids, seeds, strict=True)]
    core = env.unwrapped.core
    ended = np.zeros(len(seeds), dtype=bool)
    while not ended.all():
        going = np.flatnonzero(~ended)
        actions = policy(observations)[going]
        result = core.step(actions, going)
        observations = core.observations
        for i, row in enumerate(going):
            episode, info = episodes[row], result.infos[i]
            episode.rewards.append(float(result.rewards[i]))
            if actions.ndim == 1:
                episode.actions.append(int(actions[i]))
            if "score" in info:
                episode.scores.append(info["score"])
            episode.error = info.get("error")
            episode.outcome = info.get("outcome")
        ended[going] = result.terminated | result.truncated
    for row, episode in enumerate(episodes):
        episode.turns = [(turn.speaker, turn.text) for turn in core.states[row].dialogue.turns]
    return episodes


def paired_design(scenario_ids: Sequence[str], episodes: int, seed: int) -> tuple[list[str], list[int]]:
    """Return scenarios (shuffled, each as often as the others) and distinct seeds for so many episodes."""
    order = np.random.default_rng([seed, len(scenario_ids)]).permutation(len(scenario_ids))
    ids = [scenario_ids[order[i % len(order)]] for i in range(episodes)]
    return ids, [1_000_000 * (seed + 1) + i for i in range(episodes)]
