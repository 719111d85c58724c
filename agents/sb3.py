"""Stable-Baselines3's TD3, SAC, DQN and PPO on a batched vector environment, with checkpoints that resume exactly.

```python
model = make_sb3("SAC", gym.make_vec("DialogEnvs/DATSocial-v0", num_envs=64), seed=0)
train_sb3(model, 10_000, checkpoint_every=2_000, folder="runs/sac")
```
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from tqdm import tqdm

from agents.buffers import EpisodeMeter
from agents.checkpoint import flatten, global_rng_state, load_tree, save_tree, set_global_rng_state
from agents.curves import tensorboard_logger
from agents.sb3_buffers import ValidPPO, ValidReplayBuffer, ValidRolloutBuffer
from agents.sb3_vec_env import SB3VecEnv

__all__ = ["SB3VecEnv", "load_sb3", "make_sb3", "restore_sb3", "save_sb3", "train_sb3"]

CHECKPOINT = "sb3.safetensors"
ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"TD3": TD3, "SAC": SAC, "DQN": DQN, "PPO": ValidPPO}
COUNTERS = ("num_timesteps", "_total_timesteps", "_episode_num", "_n_updates", "_current_progress_remaining")
OF_DQN = ("_n_calls", "exploration_rate")
LAST = ("_last_obs", "_last_episode_starts")
REPLAY_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def make_sb3(algorithm: str, env: VectorEnv | SB3VecEnv, seed: int, **overrides: Any) -> BaseAlgorithm:
    """Return a model of Stable-Baselines3 whose buffers leave failed rows out.

    Args:
        algorithm: `"TD3"`, `"SAC"`, `"DQN"` (for a choice among numbers) or `"PPO"`.
        env: the batched environment.
        seed: of the weights, the exploration and the first reset.
        **overrides: the algorithm's own arguments where they differ from this function's defaults (one gradient step
            per transition, a replay buffer of 100,000, the CPU; PPO: 1,024 transitions a rollout, batches of 256), and
            for TD3 `action_noise_sigma` (0.1). Plain values and containers of them, since checkpoints store them.

    Raises:
        ValueError: an unknown algorithm.
        TypeError: an override is an object, or the algorithm has no such argument.
    """
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm is {algorithm!r}, expected one of {', '.join(ALGORITHMS)}")
    recipe = {"algorithm": algorithm, "seed": seed, "overrides": copy.deepcopy(overrides)}
    flatten(recipe)  # refuses by name what a checkpoint cannot hold
    venv = env if isinstance(env, SB3VecEnv) else SB3VecEnv(env)
    arguments: dict[str, Any] = {"policy": "MlpPolicy", "device": "cpu"}
    if algorithm == "PPO":
        steps = overrides.get("n_steps", max(8, 1024 // venv.num_envs))
        arguments |= {"n_steps": steps, "batch_size": min(256, steps * venv.num_envs)}
        arguments["rollout_buffer_class"] = ValidRolloutBuffer
    else:
        arguments |= {"buffer_size": 100_000, "gradient_steps": -1, "replay_buffer_class": ValidReplayBuffer}
    arguments |= copy.deepcopy(overrides)  # Stable-Baselines3 writes into policy_kwargs
    if algorithm == "TD3":
        sigma = arguments.pop("action_noise_sigma", 0.1)
        shape = venv.action_space.shape
        arguments["action_noise"] = NormalActionNoise(np.zeros(shape), np.full(shape, sigma))
    model = ALGORITHMS[algorithm](env=venv, seed=seed, **arguments)
    model.recipe = recipe
    return model


def _fitting(model: BaseAlgorithm) -> dict[str, Any]:
    """Return what a checkpoint must agree on with the model that takes it."""
    spaces = {"observation": model.observation_space.shape, "action": model.action_space.shape, "rows": model.n_envs}
    return {"recipe": model.recipe, "spaces": spaces}


def save_sb3(model: BaseAlgorithm, folder: str | Path) -> None:
    """Save a model made by `make_sb3` whole and atomically: `<folder>/sb3.safetensors`, no pickle.

    In it: all networks and optimisers, the replay buffer, counters, episode statistics, the random generators (Python,
    numpy, torch, action space), and the environment's state if it has `get_state()`. It resumes exactly between two
    calls of `learn`; in the middle of one a rollout would be lost.
    """
    _, variables = model._get_torch_save_params()
    tree = _fitting(model) | {
        "parameters": model.get_parameters(),
        "variables": {name: getattr(model, name) for name in variables},
        "counters": {name: getattr(model, name) for name in (*COUNTERS, *OF_DQN) if hasattr(model, name)},
        "last": {name: getattr(model, name) for name in LAST},
        "episodes": list(model.ep_info_buffer or []),
        "successes": list(model.ep_success_buffer or []),
        "generators": global_rng_state(),
        "action_space": model.action_space.np_random.bit_generator.state,
        "running": vars(_meter(model)),
        "env": None if model._last_obs is None else _env_method(model, "get_state"),
    }
    if isinstance(model, OffPolicyAlgorithm):
        buffer = model.replay_buffer
        tree["replay"] = {name: getattr(buffer, name)[: buffer.size()] for name in REPLAY_ARRAYS}
        tree["replay_position"] = (buffer.pos, buffer.full)
    save_tree(Path(folder) / CHECKPOINT, tree)


def _env_method(model: BaseAlgorithm, name: str, *arguments: Any) -> Any:
    venv = model.get_env()
    return venv.env_method(name, *arguments, indices=0)[0] if venv.has_attr(name) else None


def _meter(model: BaseAlgorithm) -> EpisodeMeter:
    return model.get_env().unwrapped.meter


def restore_sb3(model: BaseAlgorithm, folder: str | Path) -> None:
    """Put a model made by `make_sb3` into the state that `save_sb3` wrote.

    Where the environment has no state of its own to take up, it is reset at the next `learn`, with a seed made of the
    model's seed and its number of steps.

    Raises:
        ValueError: the checkpoint is of another recipe (algorithm, seed, overrides) or other spaces.
    """
    _restore(model, Path(folder) / CHECKPOINT, load_tree(Path(folder) / CHECKPOINT))


def _restore(model: BaseAlgorithm, path: Path, tree: Mapping[str, Any]) -> None:
    for name, own in _fitting(model).items():
        if tree.get(name) != own:
            raise ValueError(f"{path} has {name} {tree.get(name)}, this model has {own}")
    model.set_parameters(tree["parameters"])
    with torch.no_grad():
        for name, value in tree["variables"].items():
            getattr(model, name).copy_(value)
    for name, value in (tree["counters"] | tree["last"]).items():
        setattr(model, name, value)
    model.ep_info_buffer = deque(tree["episodes"], maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(tree["successes"], maxlen=model._stats_window_size)
    if isinstance(model, OffPolicyAlgorithm):
        buffer = model.replay_buffer
        buffer.pos, buffer.full = tree["replay_position"]
        for name in REPLAY_ARRAYS:
            getattr(buffer, name)[: buffer.size()] = tree["replay"][name]
    if tree["env"] is not None and model.get_env().has_attr("set_state"):
        _env_method(model, "set_state", tree["env"])
        vars(_meter(model)).update(tree["running"])
    else:
        model._last_obs = None
        model.get_env().seed(int(np.random.SeedSequence((model.seed, model.num_timesteps)).generate_state(1)[0]))
    model.action_space.np_random.bit_generator.state = tree["action_space"]
    set_global_rng_state(tree["generators"])


def load_sb3(folder: str | Path, env: VectorEnv | SB3VecEnv) -> BaseAlgorithm:
    """Return the model that `save_sb3` wrote, on a new environment."""
    path = Path(folder) / CHECKPOINT
    tree = load_tree(path)
    if "recipe" not in tree:
        raise ValueError(f"{path} is not a checkpoint of save_sb3")
    recipe = tree["recipe"]
    model = make_sb3(recipe["algorithm"], env, recipe["seed"], **recipe["overrides"])
    _restore(model, path, tree)
    return model


class _ProgressBar(BaseCallback):
    def __init__(self, bar: tqdm) -> None:
        super().__init__()
        self.bar = bar

    def _on_step(self) -> bool:
        self.bar.update(self.num_timesteps - self.bar.n)
        return True


@contextmanager
def _schedules_over(model: BaseAlgorithm, total_steps: int) -> Iterator[None]:
    """Let what hangs on progress (exploration, rates) run over so many steps: `learn` ends it with its own segment."""
    update = model._update_current_progress_remaining
    model._update_current_progress_remaining = lambda steps, _: update(min(steps, total_steps), total_steps)
    try:
        yield
    finally:
        del model._update_current_progress_remaining


def train_sb3(
    model: BaseAlgorithm,
    total_steps: int,
    checkpoint_every: int,
    folder: str | Path,
    *,
    evaluate: Callable[[BaseAlgorithm], Mapping[str, float]] | None = None,
    progress: bool = True,
) -> BaseAlgorithm:
    """Train until `total_steps` environment steps (rows counted singly) have been made in all.

    Learning goes in segments of `checkpoint_every` steps with a checkpoint and TensorBoard curves in `folder`, and what
    partner and judge have spent among them, if the environment has `scalars`. Schedules (DQN's exploration, a falling
    rate) run over `total_steps`, not over a segment. A model that has made no step goes on from the checkpoint that
    lies there, and ends with the weights of an unbroken run if its environment has `get_state` and `set_state`.

    Args:
        model: made by `make_sb3`.
        total_steps: rounded up to whole steps of the batch, for PPO to whole rollouts.
        checkpoint_every: environment steps between two checkpoints.
        folder: of the checkpoint and the TensorBoard events.
        evaluate: called before each checkpoint; what it returns is logged.
        progress: show a bar.
    """
    if model.num_timesteps == 0 and (Path(folder) / CHECKPOINT).exists():
        restore_sb3(model, folder)
    model.set_logger(tensorboard_logger(folder))
    interval = max(4, model.n_envs) if isinstance(model, OffPolicyAlgorithm) else 1
    name = model.recipe["algorithm"]
    bar = tqdm(total=total_steps, initial=model.num_timesteps, desc=name, unit="turn", disable=not progress)
    with bar, _schedules_over(model, total_steps):
        while model.num_timesteps < total_steps:
            segment = min(checkpoint_every, total_steps - model.num_timesteps)
            model.learn(segment, _ProgressBar(bar), interval, reset_num_timesteps=False)
            spent = _env_method(model, "scalars") or {}
            for tag, value in (spent | dict(evaluate(model) if evaluate is not None else {})).items():
                model.logger.record(tag, value)
            model.dump_logs()  # what is recorded by now must not wait for the next segment
            save_sb3(model, folder)
    return model
