"""Attackers: trained where they need it, then played against a defender on the held-out scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv

from agents.baselines import ConstantPolicy, RandomPolicy, ZeroPolicy
from agents.best_of_n import BestOfNPolicy, fit_best_of_n
from agents.buffers import ReplayBuffer, collect
from agents.networks import ActionSet
from agents.rounds import BUFFER, Rounds, train_in_rounds
from agents.td3_bc import TD3BC
from dialog_envs import scenarios
from dialog_envs.core import SUCCESS
from dialog_envs.envs.red_team import red_team_core
from experiments.episodes import Episode, Policy, paired_design, run_episodes
from experiments.fixed_action import search_fixed_action
from experiments.redteam.config import ENV_ID, SYSTEMS, Config, Defender
from experiments.run_folder import write_json
from experiments.train import CHOICES, CURVE, FIXED_ACTION, POLICY, Measure, with_noise
from experiments.watch import Watch

QUERIES = "queries.json"
WHOLE = 3  # whole dialogues, at least, that a row plays in a round of training
ANOTHER_TRY = 10**9  # between the seeds of two tries of best-of-N sampling
Policies = Mapping[str | None, Policy]  # scenario -> what attacks its defender; None: every scenario's


def success(episode: Episode) -> float:
    """Return 1 where a round of a dialogue succeeded, else 0; NaN for a dialogue that failed."""
    return float("nan") if episode.error is not None else float(max(episode.rewards) > SUCCESS)


def own_scenarios(config: Config) -> list[str]:
    """Return the held-out scenarios that have a planner of their own, evenly spread over all."""
    ids = [scenario.id for scenario in scenarios.load(config.heldout)]
    return [ids[int(i)] for i in np.linspace(0, len(ids), min(config.own_scenarios, len(ids)), endpoint=False)]


def make_policies(config: Config, name: str, seed: int, against: Defender | None, folder: Path) -> Policies:
    """Return a system's policies for one seed, trained against a defender where they are; what is trained is loaded."""
    system = SYSTEMS[name]
    if system.own:
        planners = {
            scenario: train_planner(config, seed, against, folder / scenario.rpartition("/")[2], scenario)
            for scenario in own_scenarios(config)
        }
        return {scenario: as_played(planner, config, seed, against) for scenario, planner in planners.items()}
    if system.trained:
        if system.policy == "fixed":
            return {None: search(config, seed, against, folder)}
        train = fit if system.policy == "fit" else train_planner
        return {None: as_played(train(config, seed, against, folder), config, seed, against)}
    space = red_team_core(1, **config.env(config.all_defenders()[0], system.up_map)).actor.action_space
    random = system.policy == "random"
    return {None: RandomPolicy(space, seed, actions="sphere") if random else ZeroPolicy(space.shape[0])}


def as_played(policy: Policy, config: Config, seed: int, against: Defender) -> Policy:
    """Return a trained policy as it is played: with noise, drawn with this seed."""
    actor = red_team_core(1, **config.env(against)).actor
    return with_noise(policy, actor.action_space, actor.action_set, config.play_noise, seed)


def train_planner(config: Config, seed: int, against: Defender, folder: Path, scenario: str | None = None) -> Policy:
    """Train TD3+BC against a defender, or load it; `scenario` is the only one it learns from."""
    path = folder / POLICY
    if path.exists():
        return TD3BC.load(path).policy()
    plan = config.training if scenario is None else config.own_training
    env, actions = training_env(config, against, plan, scenario)
    settings = replace(config.planner, seed=seed, actions=actions)
    measure = held_out_measure(config, seed, against, folder) if scenario is None else None
    learner, transitions = train_in_rounds(
        env=env, settings=settings, plan=plan, folder=folder, measure=measure, progress=scenario is None
    )
    env.close()
    note_queries(folder, transitions)
    learner.save(path)
    return learner.policy()


def fit(config: Config, seed: int, against: Defender, folder: Path) -> Policy:
    """Fit the best of some actions to as many random transitions as a planner learns from, or load it."""
    path = folder / CHOICES
    if not path.exists():
        env, actions = training_env(config, against, config.training)
        folder.mkdir(parents=True, exist_ok=True)
        random = RandomPolicy(env.unwrapped.single_action_space, seed, actions=actions)
        count = config.training.transitions
        data = collect(vector_env=env, policy=random, transitions=count, seed=seed, path=folder / BUFFER)
        env.close()
        discount = config.planner.discount
        policy, explained = fit_best_of_n(buffer=data, choices=config.choices, discount=discount, seed=seed)
        write_json(folder / "fit.json", {"explained_variance": explained})
        note_queries(folder, data)
        policy.save(path)
    return BestOfNPolicy.load(path)


def search(config: Config, seed: int, against: Defender, folder: Path) -> Policy:
    """Search the best fixed action within as many questions as a planner is trained with, or load it."""
    path = folder / FIXED_ACTION
    if not path.exists():
        arguments, budget = config.env(against, scenarios=config.scenarios), config.training.transitions
        action, queries = search_fixed_action(arguments, config.candidates, budget, seed, config.rows, ENV_ID)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / QUERIES, {"queries": queries})
        ConstantPolicy(action).save(path)
    return ConstantPolicy.load(path)


def training_env(
    config: Config, against: Defender, plan: Rounds, scenario: str | None = None
) -> tuple[VectorEnv, ActionSet]:
    """Return the environment to train in, and where its up-mapping projects actions.

    It has so many rows that each plays some whole dialogues in a round of training.
    """
    chosen = config.scenarios if scenario is None else f"{config.heldout}#{scenario}"
    rows = plan.transitions // (plan.rounds * WHOLE * config.max_turns)
    env = gym.make_vec(ENV_ID, num_envs=max(1, min(config.rows, rows)), **config.env(against, scenarios=chosen))
    return env, env.unwrapped.core.actor.action_set


def note_queries(folder: Path, data: ReplayBuffer) -> None:
    """Note how often the defender was asked, and whether a round of any training dialogue was a success."""
    queries = len(data) + data.statistics["failed_rows"]
    write_json(folder / QUERIES, {"queries": queries, "found": bool((data.data.reward > SUCCESS).any())})


def held_out_measure(config: Config, seed: int, against: Defender, folder: Path) -> Measure:
    """Return what plays a planner in training against its defender: the curve is of successes."""
    known = scenarios.load(config.heldout)
    design = paired_design([scenario.id for scenario in known], config.evaluation_episodes, 100 + seed)

    def play_point(policy: Policy) -> list[Episode]:
        noisy = as_played(policy, config, seed, against)
        return run_episodes(config.env(against), noisy, *design, ENV_ID, config.rows)

    watch = Watch(config.watch, config.reward)
    return Measure(folder / CURVE, play_point, watch, known, success, "rollout/success_rate")


def play(config: Config, name: str, policies: Policies, seed: int, defender: Defender, label: str) -> list[Episode]:
    """Play the dialogues of a seed: the same scenarios and dice for every system that has them."""
    system = SYSTEMS[name]
    ids, seeds = paired_design([scenario.id for scenario in scenarios.load(config.heldout)], config.episodes, seed)
    arguments = config.env(defender, system.up_map) | ({"max_turns": 1} if system.single_rounds else {})
    tries = config.max_turns if system.single_rounds else 1
    episodes: list[Episode] = []
    for scenario, policy in policies.items():
        where = [i for i, found in enumerate(ids) if scenario in (None, found)]
        if not where:
            continue
        if hasattr(policy, "reset"):
            policy.reset(seed)
        chosen = [ids[i] for i in where] * tries
        dice = [seeds[i] + ANOTHER_TRY * k for k in range(tries) for i in where]
        told = run_episodes(arguments, policy, chosen, dice, ENV_ID, config.rows, label)
        episodes += [merged(told[i :: len(where)]) for i in range(len(where))]
    return sorted(episodes, key=lambda episode: episode.seed)


def merged(tries: Sequence[Episode]) -> Episode:
    """Return several dialogues as one: the first one's seed, all rounds in order; failed where one failed."""
    first = tries[0]
    if len(tries) == 1:
        return first
    return replace(
        first,
        turns=[turn for episode in tries for turn in episode.turns],
        rewards=[reward for episode in tries for reward in episode.rewards],
        scores=[score for episode in tries for score in episode.scores],
        error=next((episode.error for episode in tries if episode.error is not None), None),
    )
