"""The best fixed action: one action for every state, found by search on the training scenarios within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from agents.fixed_action import best_fixed_action, halving_evaluations
from dialog_envs import scenarios
from dialog_envs.envs.dat import social_core
from experiments.episodes import Episode, paired_design, run_episodes
from experiments.steering import random_directions


def action_dim(arguments: Mapping[str, Any]) -> int:
    """Return the size d' of an environment's actions."""
    return int(social_core(1, **arguments).actor.action_space.shape[0])


def search_fixed_action(
    arguments: Mapping[str, Any],
    candidates: int,
    budget: int,
    seed: int,
    rows: int,
    env_id: str = "DialogEnvs/DATSocial-v0",
) -> tuple[np.ndarray, int]:
    """Return the best of some random unit actions (d',) by successive halving, and the environment steps it took.

    Every call of the search plays all surviving actions on the same scenarios with the same seeds, drawn anew for the
    next call.

    Args:
        arguments: the environment's, with the scenarios to search on.
        candidates: how many actions to begin with.
        budget: environment steps at most. A failed dialogue has spent its steps, but is left out of the means.
        seed: of the actions and the dialogues.
        rows: dialogues at a time.
        env_id: of the environment, one that is steered.

    Raises:
        ValueError: the budget does not give each candidate one dialogue.
    """
    ids = [scenario.id for scenario in scenarios.load(arguments["scenarios"])]
    least = halving_evaluations(candidates) * arguments["max_turns"]
    dialogues = budget // least
    if dialogues < 1:
        raise ValueError(f"the budget is {budget} steps, a search among {candidates} fixed actions takes {least}")
    calls = steps = 0

    def returns(actions: np.ndarray) -> np.ndarray:
        nonlocal calls, steps
        chosen, seeds = paired_design(ids, dialogues, 1000 * (seed + 1) + calls)
        calls += 1
        repeated = np.repeat(actions, dialogues, 0)
        episodes = _run_each(arguments, repeated, chosen * len(actions), seeds * len(actions), rows, env_id)
        steps += sum(len(episode.rewards) for episode in episodes)
        values = [np.nan if episode.error else episode.episode_return for episode in episodes]
        return np.reshape(values, (len(actions), dialogues))

    action, _ = best_fixed_action(returns, random_directions(candidates, action_dim(arguments), seed))
    return action, steps


def _run_each(
    arguments: Mapping[str, Any], actions: np.ndarray, ids: Sequence[str], seeds: Sequence[int], rows: int, env_id: str
) -> list[Episode]:
    """Run one dialogue for each (action, scenario, seed), at most `rows` at a time, in batches of like size."""
    episodes: list[Episode] = []
    for part in np.array_split(np.arange(len(actions)), -(-len(actions) // rows)):
        here = slice(part[0], part[-1] + 1)
        own = actions[here]
        episodes += run_episodes(arguments, lambda obs, own=own: own, ids[here], seeds[here], env_id, len(own))
    return episodes
