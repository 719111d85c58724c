"""TD3+BC against Stable-Baselines3's TD3: gradient steps per second at equal sizes, and learning curves on Pendulum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from torch import nn
from tqdm import tqdm

from agents.buffers import ReplayBuffer
from agents.td3_bc import TD3BC, TD3BCConfig
from experiments.bench import show
from experiments.bench.steps import timed
from experiments.plots import plot_curves
from experiments.run_folder import ResultRow, open_run, write_json, write_results
from experiments.statistics import mean_ci95

NO_CLONING = 1e6  # TD3+BC's alpha: what is left of cloning is this small a part of the actor's loss
OURS, THEIRS = "td3_bc", "sb3_td3"


@dataclass(frozen=True)
class Config:
    """Measure both in turn, in one process; run nothing else meanwhile."""

    out: Path = Path("runs/bench_learner")
    """Run folder; `curve.png` in it."""
    obs_dim: int = 256
    """Size of the observations for the speed: the pocket model's state."""
    action_dim: int = 16
    """Size of the actions for the speed."""
    hidden: tuple[int, ...] = (256, 256)
    """Hidden layers of actor and critics."""
    batch_size: int = 256
    """Transitions per gradient step."""
    gradient_steps: int = 500
    """Steps in one measurement of the speed."""
    repeats: int = 5
    """Measurements."""
    env_id: str = "Pendulum-v1"
    """The known task."""
    env_steps: int = 8_000
    """Environment steps of a run on it, with as many gradient steps."""
    learning_starts: int = 1_000
    """Random steps before the first gradient step."""
    points: int = 8
    """Points of a curve."""
    episodes: int = 10
    """Episodes a point."""
    seeds: int = 5
    """Runs of each learner on the task; 0 measures the speed alone."""
    threads: int = 2
    """CPU threads."""


def run(config: Config) -> Path:
    """Measure, plot, print and write the rows; return the run folder."""
    torch.set_num_threads(config.threads)
    out = open_run(config.out, "bench learner", config)
    found = _speed(config)
    if config.seeds:
        found += _curves(config, out)
    write_results(out, found)
    show(found)
    return out


class Sizes(gym.Env):
    """Spaces without a task."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, obs_dim: int, action_dim: int) -> None:
        self.observation_space = gym.spaces.Box(-10, 10, (obs_dim,), np.float32)
        self.action_space = gym.spaces.Box(-1, 1, (action_dim,), np.float32)


def _speed(config: Config) -> list[ResultRow]:
    rng = np.random.default_rng(0)
    count, steps = 10_000, config.gradient_steps
    obs, next_obs = rng.standard_normal((2, count, config.obs_dim)).astype(np.float32)
    action = rng.uniform(-1, 1, (count, config.action_dim)).astype(np.float32)
    reward, done = rng.random(count).astype(np.float32), (rng.random(count) < 0.25).astype(np.float32)
    buffer = ReplayBuffer(count, config.obs_dim, config.action_dim)
    buffer.add(obs, action, next_obs, reward, done)
    ours = TD3BC(config.obs_dim, config.action_dim, TD3BCConfig(hidden=config.hidden, batch_size=config.batch_size))
    theirs = _td3(TD3, Sizes(config.obs_dim, config.action_dim), config, 0, buffer_size=count)
    for row in range(count):
        theirs.replay_buffer.add(obs[row], next_obs[row], action[row], reward[row], done[row], [{}])
    theirs.set_logger(Logger(None, []))
    ways: dict[str, Callable[[], object]] = {
        OURS: lambda: ours.train(buffer, ours.steps + steps, progress=False),
        THEIRS: lambda: theirs.train(steps, config.batch_size),
    }
    seconds = [[timed(way) for way in ways.values()] for _ in range(config.repeats + 1)][1:]  # in turn: pairs
    rates = dict(zip(ways, steps / np.array(seconds).T, strict=True))
    found = [
        ResultRow(name, "gradient_steps_per_second", *mean_ci95(values), config.repeats, 1)
        for name, values in rates.items()
    ]
    return [*found, ResultRow(OURS, "times_as_fast", *mean_ci95(rates[OURS] / rates[THEIRS]), config.repeats, 1)]


class OwnGradients(TD3):
    """Stable-Baselines3's TD3 with our gradient steps: collection, buffer and exploration are its own.

    The actor is one and the same in both, so what is learned is what acts.
    """

    def _setup_model(self) -> None:
        super()._setup_model()
        settings = TD3BCConfig(
            alpha=NO_CLONING,
            discount=self.gamma,
            tau=self.tau,
            policy_noise=self.target_policy_noise,
            noise_clip=self.target_noise_clip,
            policy_freq=self.policy_delay,
            learning_rate=self.lr_schedule(1),
            batch_size=self.batch_size,
            hidden=tuple(self.policy.net_arch),
            normalize=False,
            seed=self.seed,
        )
        self.learner = TD3BC(self.observation_space.shape[0], self.action_space.shape[0], settings)
        self.actor.mu = nn.Sequential(*self.learner.actor.layers, nn.Tanh())

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Take gradient steps on batches of Stable-Baselines3's buffer."""
        for _ in range(gradient_steps):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            done, reward = batch.dones.squeeze(1), batch.rewards.squeeze(1)
            self.learner.train_step((batch.observations, batch.actions, batch.next_observations, reward, done))
        self._n_updates += gradient_steps


def _curves(config: Config, out: Path) -> list[ResultRow]:
    every = config.env_steps // config.points
    steps = [every * (point + 1) for point in range(config.points)]
    returns = {name: np.zeros((config.seeds, config.points)) for name in (OURS, THEIRS)}
    with tqdm(total=2 * config.seeds * config.env_steps, desc=config.env_id, unit="step") as bar:
        for seed in range(config.seeds):
            for name, kind in ((OURS, OwnGradients), (THEIRS, TD3)):
                model = _td3(kind, gym.make(config.env_id), config, seed, learning_starts=config.learning_starts)
                for point in range(config.points):
                    model.learn(every, reset_num_timesteps=False)
                    returns[name][seed, point] = _played(config, model, seed)
                    bar.update(every)
    write_json(out / "curves.json", {name: values.tolist() for name, values in returns.items()})
    curves = {name: (steps, values) for name, values in returns.items()}
    plot_curves(out / "curve.png", curves, "environment steps", "return")
    areas = {name: values.mean(1) for name, values in returns.items()}
    found = [
        ResultRow(name, "mean_return_of_the_curve", *mean_ci95(values), config.seeds, config.seeds)
        for name, values in areas.items()
    ]
    difference = mean_ci95(areas[OURS] - areas[THEIRS])
    last = mean_ci95(returns[OURS][:, -1] - returns[THEIRS][:, -1])
    return [
        *found,
        ResultRow(f"{OURS} - {THEIRS}", "mean_return_of_the_curve", *difference, config.seeds, config.seeds),
        ResultRow(f"{OURS} - {THEIRS}", "return_at_the_end", *last, config.seeds, config.seeds),
    ]


def _played(config: Config, model: TD3, seed: int) -> float:
    env = gym.make(config.env_id)
    env.reset(seed=10_000 + seed)  # the same episodes for both learners
    return float(evaluate_policy(model, env, config.episodes, warn=False)[0])


def _td3(kind: type[TD3], env: gym.Env, config: Config, seed: int, **more: Any) -> TD3:
    shape = env.action_space.shape
    return kind(
        "MlpPolicy",
        env,
        seed=seed,
        device="cpu",
        learning_rate=1e-3,
        batch_size=config.batch_size,
        policy_kwargs={"net_arch": list(config.hidden)},
        action_noise=NormalActionNoise(np.zeros(shape), np.full(shape, 0.1)),
        train_freq=1,
        gradient_steps=1,
        **more,
    )
