"""Minari data sets of an environment: what a random agent says in it, what the unsteered model, what an expert."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Space
from tqdm import tqdm

import dialog_envs  # noqa: F401  (registers the ids)
from agents.baselines import RandomPolicy
from agents.minari_data import Recorded, Recorder, write
from dialog_envs.names import look_up
from experiments import evaluate, train
from experiments.episodes import Policy, paired_design
from experiments.run_folder import ResultRow, model_files, open_run, write_results
from experiments.statistics import mean_ci95

SETS = ("random", "unsteered", "expert")
EMPATHY = "DialogEnvs/EmpathyIntent-v0"  # where MEED2's own prediction is what nobody steered
UNSTEERED = {  # arguments under which the zero action leaves the environment to its own model
    "DialogEnvs/DATSocial-v0": {"up_map": "none"},
    "DialogEnvs/DATRedTeam-v0": {"up_map": "none"},
    "DialogEnvs/PPGSelect-v0": {},  # the first candidate is the generator's first draw
    "DialogEnvs/Initiative-v0": {"chooser": "recogniser"},
}
FOLDER = "minari"


@dataclass(frozen=True)
class Config:
    """Record data sets that Minari reads; all of them play the same scenarios with the same seeds.

    `MINARI_DATASETS_PATH=<out>/minari` lets `minari` list and load them.
    """

    env: str = train.ENV_ID
    """Id of the environment."""
    sets: tuple[str, ...] = SETS
    """`random` actions; `unsteered`, the frozen model by itself (what its predictor chooses, or the first candidate);
    `expert`, a trained policy."""
    expert: Path | None = None
    """A run folder of `python -m experiments train`, or a saved policy."""
    arguments: str = "{}"
    """More arguments of the environment, as JSON: `'{"max_turns": 2}'`."""
    episodes: int = 340
    """Dialogues a set."""
    seed: int = 0
    """Of scenarios, dialogues and random actions."""
    rows: int = 64
    """Dialogues at a time."""
    out: Path = Path("runs/datasets")
    """Run folder."""


class SamplingPolicy:
    """Draw actions from any space."""

    def __init__(self, space: Space, seed: int) -> None:
        self.space = copy.deepcopy(space)
        self.space.seed(seed)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Return one action a row."""
        return np.stack([self.space.sample() for _ in observations])


def run(config: Config) -> Path:
    """Record and write all sets; return the run folder. A killed run leaves no set that is not whole.

    Raises:
        ValueError: an unknown set, no expert where one is asked for, or an environment without such a set.
    """
    for name in config.sets:
        look_up("set", name, dict.fromkeys(SETS))
    if "expert" in config.sets and config.expert is None:
        raise ValueError("an expert set takes --expert: a run folder of `python -m experiments train`, or a policy")
    arguments = evaluate.planner_view(config.expert) | json.loads(config.arguments)
    out = open_run(config.out, "datasets", config, model_files(arguments.get("lm", "pocket")))
    partial = out / f"{FOLDER}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    recorded = {name: record(config, name, arguments) for name in config.sets}
    returns = {name: [float(np.sum(e.rewards)) for e in episodes] for name, (_, _, episodes) in recorded.items()}
    ends = [float(np.mean(returns[name])) for name in ("random", "expert") if name in returns]
    rows = []
    for name, (recorder, env, episodes) in recorded.items():
        references = (ends[0], ends[1]) if len(ends) == 2 else None
        dataset = write(recorder, dataset_id(config.env, name), env, name, partial, episodes, references)
        rows.append(ResultRow(name, "episode_return", *mean_ci95(returns[name]), len(episodes), 1))
        rows.append(ResultRow(name, "transitions", dataset.total_steps, None, len(episodes), 1))
        rows.append(ResultRow(name, "failed_rows", recorder.failed_rows, None, len(episodes), 1))
        recorder.close()
    write_results(out, rows)
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    os.replace(partial, out / FOLDER)
    for row in rows:
        print(f"{dataset_id(config.env, row.system):<44} {row.metric:<16} {row.value:8.2f}")
    print(f"read them with MINARI_DATASETS_PATH={out / FOLDER}")
    return out


def dataset_id(env: str, name: str) -> str:
    """Return the Minari id of an environment's set."""
    return f"dialog-envs/{env.rpartition('/')[2].partition('-v')[0]}/{name}-v0"


def record(config: Config, name: str, arguments: Mapping[str, Any]) -> tuple[Recorder, gym.Env, list[Recorded]]:
    """Play one set; return the recorder, the single environment that it is of, and the episodes in order."""
    single = gym.make(config.env, **arguments)
    space = single.action_space
    if name == "unsteered" and config.env in UNSTEERED:
        arguments = {**arguments, **UNSTEERED[config.env]}
        if isinstance(space, Box):  # the same actions, and no mapping that hears them
            arguments["action_dim"] = space.shape[0]
        single = gym.make(config.env, **arguments)
    rows = min(config.rows, config.episodes)
    recorder = Recorder(gym.make_vec(config.env, num_envs=rows, autoreset_mode="disabled", **arguments))
    chosen, seeds = paired_design(list(recorder.core.scenarios), config.episodes, config.seed)
    return recorder, single, play(recorder, find_policy(config, name, space, recorder), chosen, seeds, name)


def find_policy(config: Config, name: str, space: Space, recorder: Recorder) -> Policy:
    """Return who acts in a set.

    Raises:
        ValueError: nothing is unsteered in this environment.
    """
    if name == "expert":
        return evaluate.load_policies(config.expert)[0]
    if name == "random":
        actions = getattr(recorder.core.actor, "action_set", None)
        return RandomPolicy(space, config.seed, actions) if actions else SamplingPolicy(space, config.seed)
    if config.env == EMPATHY:
        from dialog_envs.envs.empathy_intent import PREDICTED

        return lambda observations: observations[:, PREDICTED].argmax(1)
    if config.env not in UNSTEERED:
        raise ValueError(f"{config.env} has no unsteered set; those that have one: {', '.join((*UNSTEERED, EMPATHY))}")
    return lambda observations: np.zeros((len(observations), *space.shape), dtype=space.dtype)


def play(
    recorder: Recorder, policy: Policy, scenarios: Sequence[str], seeds: Sequence[int], progress: str | None = None
) -> list[Recorded]:
    """Play one dialogue for each (scenario, seed); return those that did not fail, in this order.

    A row that has ended begins the next pair at once; when none is left it plays on, seedless, until all have ended.
    """
    count, rows = len(seeds), recorder.num_envs
    playing: list[int | None] = list(range(rows))  # which pair each row plays
    observations, _ = recorder.reset(seed=list(seeds[:rows]), options={"scenario": list(scenarios[:rows])})
    given, over = rows, 0
    with tqdm(total=count, desc=progress, unit="episode", disable=progress is None, leave=False) as bar:
        while over < count:
            observations, _, terminated, truncated, _ = recorder.step(policy(observations))
            ended = terminated | truncated
            for row in np.flatnonzero(ended):
                over += playing[row] is not None
                playing[row] = given if given < count else None
                given += 1
            bar.update(over - bar.n)
            if ended.any() and over < count:
                seed = [None if pair is None else seeds[pair] for pair in playing]
                scenario = [None if pair is None else scenarios[pair] for pair in playing]
                observations, _ = recorder.reset(seed=seed, options={"scenario": scenario, "reset_mask": ended})
    whole = {episode.seed: episode for episode in recorder.episodes if episode.complete}
    return [whole[seed] for seed in seeds if seed in whole]
