"""Compare TD3+BC with every other way to act, all with the same budget of environment steps, on held-out scenarios."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from tqdm import tqdm

from agents.baselines import RandomPolicy, ZeroPolicy
from dialog_envs import scenarios
from dialog_envs.envs.dat import load_lm
from dialog_envs.names import look_up
from experiments import comparison, evaluate, train
from experiments.episodes import Episode, Policy, read_episodes, save_episodes
from experiments.fixed_action import action_dim
from experiments.run_folder import file_hash, model_files, open_run


@dataclass(frozen=True)
class System:
    """Something to compare.

    Attributes:
        label: its name in tables.
        algorithm: what trains it; None for a policy that needs no training.
        up_map: its up-mapping: a name, or None for the configuration's; `"clone"` is the configuration's clone.
        settings: of training, where they are not the configuration's.
    """

    label: str
    algorithm: train.Algorithm | None = None
    up_map: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


SYSTEMS = {
    "unsteered": System("unsteered", up_map="none"),
    "random": System("random actions"),
    "self_cloned": System("self-cloned", up_map="clone"),
    "best_fixed": System("best fixed action", "best_fixed"),
    "best_of_n": System("best of N actions", "best_of_n"),
    "td3_bc": System(comparison.PLANNER, "td3_bc"),
    "td3_bc_offline": System(f"{comparison.PLANNER}, random transitions alone", "td3_bc", settings={"rounds": 1}),
    "td3_bc_forgetful": System(
        f"{comparison.PLANNER}, not shown its past actions", "td3_bc", settings={"past_actions": 0}
    ),
    "td3": System("TD3", "td3"),
    "sac": System("SAC", "sac"),
    "ppo": System("PPO", "ppo"),
    "td3_bc_pca": System(f"{comparison.PLANNER}, pca mapping", "td3_bc", "pca"),
    "td3_bc_clone": System(f"{comparison.PLANNER}, self-cloned base", "td3_bc", "clone"),
    "td3_bc_latent": System(f"{comparison.PLANNER}, latent mapping, not self-cloned", "td3_bc", "latent"),
}


@dataclass(frozen=True)
class Config(train.Settings):
    """Train and evaluate systems, seed by seed; a killed run goes on with the first cell (a system and a seed) that is
    not done. More systems, seeds or another partner may be asked for later; any other change takes a new folder."""

    systems: tuple[str, ...] = tuple(name for name in SYSTEMS if name != "td3_bc_latent")
    """What to compare; the first one is what gains and ratios are counted from. `td3_bc_latent` is the ablation where
    the main mapping is `clone`."""
    out: Path = Path("runs/compare")
    """Run folder."""
    clone_map: str = "clone"
    """Self-cloned up-mapping of `self_cloned` and `td3_bc_clone`: a name, or a .safetensors file."""
    partner_lm: str | None = None
    """Another model for the partner, that no planner was trained with: every system is evaluated again with it."""
    episodes: int = 102
    """Held-out dialogues a seed."""
    threads: int = 2
    """CPU threads."""


CHANGEABLE = ("systems", "seeds", "out", "partner_lm", "threads")


def run(config: Config) -> Path:
    """Do every cell that is not done, then write tables, figures and transcripts; return the run folder."""
    systems = {name: look_up("system", name, SYSTEMS) for name in config.systems}
    torch.set_num_threads(config.threads)
    out = open_run(
        config.out, "compare", config, train.data_files(config.lm, config.up_map, config.clone_map), CHANGEABLE
    )
    partners = partner_files(config.partner_lm)
    cells = [(seed, name) for seed in range(config.seeds) for name in systems]
    with tqdm(cells, unit="cell") as bar:
        for seed, name in bar:
            bar.set_description(f"{name}, seed {seed}")
            run_cell(config, name, seed, partners)
    known = scenarios.load(config.heldout)
    comparison.report(out, collected(config, partners), load_lm(config.lm, "cpu", "float32"), known, facts(config))
    return out


def run_cell(config: Config, name: str, seed: int, partners: Mapping[str | None, str]) -> None:
    """Train one system with one seed and evaluate it with each partner, where that is not done yet."""
    folder = config.out / name / f"seed_{seed}"
    missing = {partner: folder / file for partner, file in partners.items() if not (folder / file).exists()}
    if not missing:
        return
    policy = make_policy(config, name, seed)
    for partner, path in missing.items():
        arguments = evaluation_env(config, name, partner)
        label = f"{name}, seed {seed}"
        episodes = evaluate.evaluate_seed(arguments, policy, config.episodes, seed, config.rows, label)
        save_episodes(path, episodes)


def make_policy(config: Config, name: str, seed: int) -> Policy:
    """Train one system with one seed, or take up what was trained."""
    system = SYSTEMS[name]
    if system.algorithm is not None:
        training = training_config(config, name)
        # A run folder of `train`, which `evaluate` can read
        open_run(training.out, "train", training, train.data_files(config.lm, training.up_map))
        tag = f"{system.up_map or 'main'}_{training.past_actions}_seed_{seed}"  # buffers are shared by algorithms
        buffer = config.out / "buffers" / f"{tag}.safetensors"
        return train.train_seed(training, seed, training.out, buffer)[0]
    size = action_dim(evaluation_env(config, name, None))
    if name == "random":
        return RandomPolicy(gym.spaces.Box(-1.0, 1.0, (size,), np.float32), seed, "sphere")
    return ZeroPolicy(size)


def training_config(config: Config, name: str) -> train.Config:
    """Return what a system is trained with."""
    settings = {one.name: getattr(config, one.name) for one in dataclasses.fields(train.Settings)}
    system = SYSTEMS[name]
    settings |= {"up_map": up_map(config, name), "out": config.out / name, "algorithm": system.algorithm}
    return train.Config(**settings | dict(system.settings))


def evaluation_env(config: Config, name: str, partner: str | None) -> dict[str, Any]:
    """Return the environment's arguments for evaluating a system with a partner (None: its own model)."""
    settings = dataclasses.replace(config, **SYSTEMS[name].settings)
    return evaluate.Config.of(settings, up_map=up_map(config, name), partner_lm=partner).env()


def up_map(config: Config, name: str) -> str:
    """Return a system's up-mapping."""
    own = SYSTEMS[name].up_map
    return {None: config.up_map, "clone": config.clone_map}.get(own, own)


def partner_files(other: str | None) -> dict[str | None, str]:
    """Return partner -> file of a cell's dialogues with it: None, whom planners are trained with, then the other one.

    The other one is told by its weights, where they are files, so that a model which was changed is another partner.
    """
    if other is None:
        return {None: "episodes.json"}
    weights = model_files(other)
    tag = file_hash(weights[0])[:8] if weights else other.replace("/", "_")
    return {None: "episodes.json", other: f"episodes_{tag}.json"}


def collected(config: Config, partners: Mapping[str | None, str]) -> comparison.Results:
    """Read what all cells found."""
    labels = {name: SYSTEMS[name].label for name in config.systems}
    trained = {labels[name]: training_config(config, name) for name in labels if SYSTEMS[name].algorithm}
    seeds = range(config.seeds)

    def dialogues(file: str) -> dict[str, list[list[Episode]]]:
        folders = {label: config.out / name for name, label in labels.items()}
        return {
            label: [read_episodes(folder / f"seed_{seed}" / file) for seed in seeds]
            for label, folder in folders.items()
        }

    own, *others = (dialogues(file) for file in partners.values())
    return comparison.Results(
        episodes=own,
        transferred=others[0] if others else {},
        algorithms={label: training.algorithm for label, training in trained.items()},
        curves={
            label: [train.read_curve(training.out / f"seed_{seed}" / train.CURVE) for seed in seeds]
            for label, training in trained.items()
        },
        environment_steps={
            label: max(train.environment_steps(training, seed, training.out) for seed in seeds)
            for label, training in trained.items()
        },
    )


def facts(config: Config) -> Mapping[str, str]:
    """Return what to know about the run, for the page of transcripts."""
    return {
        "model": config.lm,
        "up-mapping": config.up_map,
        "scenarios": config.heldout,
        "dialogues a seed": str(config.episodes),
        "environment steps a seed": f"{config.transitions:,} at most",
        **({"other partner": config.partner_lm} if config.partner_lm else {}),
    }
