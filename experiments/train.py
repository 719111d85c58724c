"""Train planners on one environment: TD3+BC offline, SB3's learners online, and the baselines that search."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv

import dialog_envs  # noqa: F401  (registers the ids)
from agents.baselines import ConstantPolicy, ExploringPolicy, RandomPolicy
from agents.best_of_n import BestOfNPolicy, fit_best_of_n
from agents.buffers import collect
from agents.curves import EPISODE_REWARD
from agents.ray_vector_env import make_vec
from agents.rounds import BUFFER, FEW_TRANSITIONS, Rounds, train_in_rounds
from agents.sb3 import make_sb3, train_sb3
from agents.td3_bc import TD3BC
from dialog_envs import scenarios
from dialog_envs.envs.dat import social_core
from dialog_envs.scenarios.scenario import Scenario
from experiments.episodes import Episode, Policy, paired_design, run_episodes
from experiments.fixed_action import search_fixed_action
from experiments.plots import plot_curves
from experiments.run_folder import ResultRow, model_files, open_run, write_json, write_results
from experiments.statistics import clustered_ci95
from experiments.watch import Watch

ENV_ID = "DialogEnvs/DATSocial-v0"
REWARD = "social_score"  # what planners are trained on
Algorithm = Literal["td3_bc", "td3", "sac", "ppo", "dqn", "best_of_n", "best_fixed"]
Curve = list[tuple[int, list[float]]]  # (step, returns of the evaluation's episodes)

# What is written beside checkpoints when a planner is done: file -> what reads it
POLICY, CHOICES, FIXED_ACTION = "policy.safetensors", "best_of_n.safetensors", "fixed_action.safetensors"
CURVE, SEARCH = "curve.json", "search.json"
LOADERS: dict[str, Callable[[Path], Policy]] = {
    POLICY: lambda path: TD3BC.load(path).policy(),
    CHOICES: BestOfNPolicy.load,
    FIXED_ACTION: ConstantPolicy.load,
}


@dataclass(frozen=True)
class Settings:
    """What every planner is trained with, whatever its algorithm."""

    lm: str = "pocket"
    """`pocket`, a model folder, or a Hugging Face name."""
    up_map: str = "latent"
    """`pca`, `latent`, `clone`, or a .safetensors file."""
    scenarios: str = "train"
    """Scenarios that are trained on."""
    heldout: str = "heldout"
    """Scenarios that planners are measured on (tune settings with `train`, and never on these)."""
    max_turns: int = 4
    """Agent turns a dialogue."""
    past_actions: int = 3
    """How many of its own last actions a planner sees behind the hidden state."""
    dense_reward: bool = True
    """Train on per-turn differences of the score; they sum to the same return."""
    transitions: int = Rounds.transitions
    """Environment steps a seed: the offline buffers' size, the online budget, or the search's. With 64 rows, 5,120 are
    five whole rollouts of PPO, so that all take equally many."""
    rounds: int = Rounds.rounds
    """Rounds of TD3+BC, which share the transitions: the first is collected under random actions, each later one under
    the policy learned from all before it, with noise; 1 learns from random actions alone."""
    steps: int = Rounds.steps
    """Gradient steps of TD3+BC, from new networks, in each round."""
    alpha: float = FEW_TRANSITIONS.alpha
    """TD3+BC's weight of the value against cloning the behaviour."""
    learning_rate: float = FEW_TRANSITIONS.learning_rate
    """Of TD3+BC."""
    critics: int = FEW_TRANSITIONS.critics
    """Critics of TD3+BC: each target takes a random pair of them, the actor their mean."""
    dropout: float = FEW_TRANSITIONS.dropout
    """Share of hidden units that TD3+BC drops where it fits its critics."""
    exploration_noise: float = Rounds.noise
    """Length of the noise on TD3+BC's actions in the later rounds, where 1 is an action's own."""
    random_share: float = Rounds.random_share
    """Share of random actions in the later rounds."""
    play_noise: float = 0.5
    """Length of the noise on a planner's actions where it is played and measured, whatever its algorithm; 0: none. The
    best fixed action and a choice among numbers have none."""
    discount: float = FEW_TRANSITIONS.discount
    """Discount a turn."""
    choices: int = 64
    """N of best-of-N: actions that its fit chooses from in each state."""
    candidates: int = 32
    """Fixed actions that the best fixed one is searched among."""
    seeds: int = 3
    """Planners to train, seeded 0, 1, ..."""
    rows: int = 64
    """Dialogues at a time."""
    evaluations: int = 5
    """Points of an online algorithm's curve, the last one at the end; TD3+BC's has one a round."""
    evaluation_episodes: int = 51
    """Dialogues a point."""
    watch: tuple[str, ...] = ()
    """Held-out judges, as rewards are named: each point's dialogues are judged by them too, which is logged and never
    optimised."""

    device: str = "cpu"
    """Where the models lie."""
    dtype: str = "float32"
    """Of their weights."""
    ray_workers: int = 0
    """Ray actors that share the rows of training, each with a model of its own; 0 trains in this process alone."""
    ray_address: str | None = None
    """Of a running Ray cluster; None starts one on this machine."""
    ray_gpus: float = 0.0
    """GPUs of each worker, or a share of one."""

    def env(self, **more: Any) -> dict[str, Any]:
        """Return the environment's arguments for training."""
        names = ("lm", "up_map", "scenarios", "max_turns", "past_actions", "dense_reward", "device", "dtype")
        return {name: getattr(self, name) for name in names} | more


@dataclass(frozen=True)
class Config(Settings):
    """Train one planner a seed; a run that was killed goes on from its checkpoints and gives the same curve."""

    algorithm: Algorithm = "td3_bc"
    """TD3+BC learns in rounds, offline in each; best-of-N from random transitions; td3, sac and ppo online; best_fixed
    searches; dqn chooses among numbers, in an environment that --preset names."""
    preset: str | None = None
    """An environment's id, or `FILE.yml:ID`: train by the preset for it and the algorithm, whose values go before
    these."""
    out: Path = Path("runs/train")
    """Run folder; each seed has a folder in it."""


def as_played(policy: Policy, config: Config, seed: int = 0) -> Policy:
    """Return a trained policy as it is played: with noise, drawn with this seed."""
    if config.algorithm == "best_fixed":
        return policy
    actor = social_core(1, **config.env()).actor
    return with_noise(policy, actor.action_space, actor.action_set, config.play_noise, seed)


def with_noise(policy: Policy, actions: Box, action_set: str, length: float, seed: int) -> Policy:
    """Return a policy with noise of this length on its actions, drawn with this seed; 0: the policy itself."""
    return ExploringPolicy(policy, RandomPolicy(actions, seed, action_set), length, 0.0) if length else policy


def valid_return(episode: Episode) -> float:
    """Return an episode's return; NaN for one that failed."""
    return float("nan") if episode.error is not None else episode.episode_return


class Measure:
    """Plays a planner in training on held-out scenarios: a point of its curve, and what the held-out judges say.

    Called with (environment steps, policy); returns what is logged. A point that is there already is not played again.

    Args:
        path: the curve's file.
        play: policy -> dialogues, the same design at every point.
        watch: the held-out judges.
        known: the scenarios.
        value: what the curve is of; NaN for a dialogue that failed.
        tag: under which its mean is logged.
    """

    def __init__(
        self,
        path: Path,
        play: Callable[[Policy], list[Episode]],
        watch: Watch,
        known: Sequence[Scenario],
        value: Callable[[Episode], float] = valid_return,
        tag: str = EPISODE_REWARD,
    ) -> None:
        self.path, self.play, self.watch, self.known, self.value, self.tag = path, play, watch, known, value, tag
        self.curve: Curve = read_curve(path) if path.exists() else []

    def __call__(self, steps: int, policy: Policy) -> dict[str, float]:
        """Play, write the point, return scalars."""
        if steps in dict(self.curve):
            return {}
        episodes = self.play(policy)
        values = [self.value(episode) for episode in episodes]
        self.curve.append((steps, values))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self.curve)
        scalars = {EPISODE_REWARD: float(np.nanmean([valid_return(episode) for episode in episodes]))}
        return scalars | {self.tag: float(np.nanmean(values))} | self.watch.scalars(episodes, self.known)


def run(config: Config) -> Path:
    """Train every seed, plot and write the curves; return the run folder."""
    if config.preset is not None:
        from experiments import presets

        return presets.run(config)
    if config.algorithm == "dqn":
        raise ValueError(f"algorithm 'dqn' chooses among numbers, {ENV_ID} takes vectors: name another one (--preset)")
    changeable = ("seeds", "out", "ray_address")
    out = open_run(config.out, "train", config, data_files(config.lm, config.up_map), changeable)
    curves = [train_seed(config, seed, out)[1] for seed in range(config.seeds)]
    write_curves(out, config.algorithm, curves)
    return out


def data_files(lm: str, *up_maps: str) -> list[Path]:
    """Return the files that results hang on: the model's, and up-mappings that are files."""
    return [*model_files(lm), *(Path(name) for name in up_maps if name.endswith(".safetensors"))]


def train_seed(
    config: Config, seed: int, out: Path, buffer: Path | None = None, first: Path | None = None
) -> tuple[Policy, Curve]:
    """Train one planner in `<out>/seed_<seed>`; return it as it is played, and its curve on the held-out scenarios.

    A planner that is done there is only loaded. The curve's steps are environment steps.

    Args:
        config: algorithm and settings.
        seed: of everything.
        out: the folder.
        buffer: file of all random transitions, for planners that learn from them alone and share them (default: in the
            seed's folder).
        first: file of the first round's, for planners in rounds (`collect_first_round`).
    """
    folder = out / f"seed_{seed}"
    known = scenarios.load(config.heldout)
    chosen, seeds = paired_design([scenario.id for scenario in known], config.evaluation_episodes, 100 + seed)

    def play(policy: Policy) -> list[Episode]:
        noisy = as_played(policy, config, seed)
        return run_episodes(config.env(scenarios=config.heldout), noisy, chosen, seeds, rows=config.rows)

    measure = Measure(folder / CURVE, play, Watch(config.watch, REWARD), known)
    if config.algorithm == "td3_bc":
        policy = _train_td3_bc(config, seed, folder, measure, buffer if config.rounds == 1 else first)
    elif config.algorithm == "best_of_n":
        policy = _fit_best_of_n(config, seed, folder, measure, buffer)
    elif config.algorithm == "best_fixed":
        policy = _search_best_fixed(config, seed, folder, measure)
    else:
        policy = _train_sb3(config, seed, folder, measure)
    return as_played(policy, config, seed), measure.curve


def read_curve(path: Path) -> Curve:
    """Return the curve that `train_seed` wrote."""
    return [(step, returns) for step, returns in json.loads(path.read_text())]


def environment_steps(config: Config, seed: int, out: Path) -> int:
    """Return how many environment steps the planner that `train_seed` made in `out` was trained with."""
    folder = out / f"seed_{seed}"
    if config.algorithm == "best_fixed":
        return json.loads((folder / SEARCH).read_text())["environment_steps"]
    if config.algorithm in ("td3_bc", "best_of_n"):
        return config.transitions
    return read_curve(folder / CURVE)[-1][0]


def training_env(config: Settings) -> VectorEnv:
    """Return the environment that planners are trained in."""
    spread = (config.ray_workers, config.ray_address, config.ray_gpus)
    return make_vec(ENV_ID, config.rows, *spread, **config.env())


def collect_first_round(config: Config, seed: int, path: Path) -> None:
    """Collect the first round of TD3+BC into a file, or what is missing of it: the same for every planner of a seed."""
    env = training_env(config)
    explorer = RandomPolicy(env.unwrapped.single_action_space, seed, env.unwrapped.action_set)
    collect(env, explorer, config.transitions // config.rounds, seed, path=path)
    env.close()


def _train_td3_bc(config: Config, seed: int, folder: Path, measure: Measure, shared: Path | None) -> Policy:
    env = training_env(config)
    settings = replace(
        FEW_TRANSITIONS,
        alpha=config.alpha,
        discount=config.discount,
        learning_rate=config.learning_rate,
        critics=config.critics,
        dropout=config.dropout,
        actions=env.unwrapped.action_set,
        seed=seed,
    )
    plan = Rounds(config.transitions, config.rounds, config.steps, config.exploration_noise, config.random_share)
    learner, _ = train_in_rounds(env, settings, plan, folder, measure, first=shared)
    env.close()
    learner.save(folder / POLICY)
    return learner.policy()


def _train_sb3(config: Config, seed: int, folder: Path, measure: Measure) -> Policy:
    env = training_env(config)
    model = make_sb3(config.algorithm.upper(), env, seed, gamma=config.discount)
    every = max(1, config.transitions // max(1, config.evaluations))
    train_sb3(
        model,
        config.transitions,
        every,
        folder,
        evaluate=lambda model: measure(model.num_timesteps, sb3_policy(model)),
    )
    env.close()
    return sb3_policy(model)


def _fit_best_of_n(config: Config, seed: int, folder: Path, measure: Measure, shared: Path | None) -> Policy:
    path = folder / CHOICES
    if not path.exists():
        env = training_env(config)
        explorer = RandomPolicy(env.unwrapped.single_action_space, seed, env.unwrapped.action_set)
        buffer = collect(env, explorer, config.transitions, seed, path=shared or folder / BUFFER)
        env.close()
        policy, explained = fit_best_of_n(buffer, config.choices, config.discount, seed)
        measure(config.transitions, policy)
        write_json(folder / "fit.json", {"explained_variance": explained})
        policy.save(path)
    return BestOfNPolicy.load(path)


def _search_best_fixed(config: Config, seed: int, folder: Path, measure: Measure) -> Policy:
    path = folder / FIXED_ACTION
    if not path.exists():
        action, steps = search_fixed_action(config.env(), config.candidates, config.transitions, seed, config.rows)
        policy = ConstantPolicy(action)
        measure(config.transitions, policy)
        write_json(folder / SEARCH, {"environment_steps": steps})
        policy.save(path)
    return ConstantPolicy.load(path)


def sb3_policy(model: Any) -> Policy:
    """Return a Stable-Baselines3 model's deterministic policy."""
    return lambda observations: model.predict(observations, deterministic=True)[0]


def write_curves(out: Path, name: str, curves: list[Curve]) -> None:
    """Write the curves of all seeds as rows of `results.json`, and the plot."""
    steps = [step for step, _ in curves[0]]
    returns = np.array([[values for _, values in curve] for curve in curves])  # (seeds, points, episodes)
    rows = []
    for i, step in enumerate(steps):
        mean, ci95 = clustered_ci95(returns[:, i])
        rows.append(ResultRow(f"{name} at step {step}", "episode_return", mean, ci95, returns[:, i].size, len(curves)))
    write_results(out, rows)
    plot_curves(out / "curve.png", {name: (steps, np.nanmean(returns, 2))}, "environment steps", "return, held out", {})
    for row in rows:
        print(f"{row.system:<28} {row.value:6.2f} +- {row.ci95:.2f}")
