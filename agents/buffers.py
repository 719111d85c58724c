"""Transitions for offline learning: reading a vector environment's step, the replay buffer, and batched collection."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from tqdm import tqdm

from agents.checkpoint import load_tree, save_tree

Policy = Callable[[np.ndarray], np.ndarray]


def row_errors(infos: Mapping[str, Any], num_envs: int) -> list[Any]:
    """Return why each row of a step failed, None where it did not: the `error` in `infos` or in its `final_info`."""
    errors: list[Any] = [None] * num_envs
    for place in (infos, infos.get("final_info", {})):
        if "error" in place:
            mask = place.get("_error", np.ones(num_envs, dtype=bool))
            for row in np.flatnonzero(mask):
                errors[row] = place["error"][row] if errors[row] is None else errors[row]
    return errors


def valid_rows(infos: Mapping[str, Any], num_envs: int) -> np.ndarray:
    """Return which rows (num_envs,) of a step are data: those that did not fail."""
    return np.array([error is None for error in row_errors(infos, num_envs)], dtype=bool)


def final_observations(next_obs: np.ndarray, infos: Mapping[str, Any]) -> np.ndarray:
    """Return the observations (N, H) that the step led to: `final_obs` where a row was reset, else `next_obs`."""
    mask = np.asarray(infos.get("_final_obs", np.zeros(len(next_obs), dtype=bool)), dtype=bool)
    if not mask.any():
        return next_obs
    observations = np.array(next_obs)
    observations[mask] = np.stack(list(infos["final_obs"][mask]))
    return observations


class EpisodeMeter:
    """Sum rewards and count steps of the running episode in each row.

    Attributes:
        returns: undiscounted reward of the running episodes so far, (N,).
        lengths: their steps so far, (N,).
    """

    def __init__(self, num_envs: int) -> None:
        self.returns, self.lengths = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64)

    def step(self, rewards: np.ndarray, dones: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take one step of all rows; return returns and lengths (N,) with it, and begin anew where `dones` says."""
        returns, lengths = self.returns + rewards, self.lengths + 1
        self.returns, self.lengths = np.where(dones, 0.0, returns), np.where(dones, 0, lengths)
        return returns, lengths


def require_same_step(env: VectorEnv) -> None:
    """Refuse a vector environment that does not reset its rows within the step that ends them."""
    mode = env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP:
        raise ValueError(f"the vector environment has autoreset mode {mode}, this takes {AutoresetMode.SAME_STEP}")


class Batch(NamedTuple):
    """Transitions: obs (B, H), action (B, d), next_obs (B, H), reward (B,), done (B,), all float32."""

    obs: np.ndarray
    action: np.ndarray
    next_obs: np.ndarray
    reward: np.ndarray
    done: np.ndarray


class ReplayBuffer:
    """A fixed number of transitions in preallocated float32 arrays.

    `done` is 1 where the episode terminated; a truncated episode's last state still has a future to bootstrap from.

    Attributes:
        size: how many transitions it holds, at most `capacity`.
        statistics: what `collect` counted: `episodes`, `return_sum` (of these episodes), `failed_rows` (not stored).
    """

    def __init__(self, capacity: int, obs_dim: int, action_dim: int) -> None:
        if min(capacity, obs_dim, action_dim) < 1:
            raise ValueError(f"a buffer of {capacity} transitions, sizes {obs_dim} and {action_dim}: must be positive")
        self.capacity, self.obs_dim, self.action_dim, self.size = capacity, obs_dim, action_dim, 0
        widths = ((obs_dim,), (action_dim,), (obs_dim,), (), ())
        self._arrays = Batch(*(np.zeros((capacity, *width), dtype=np.float32) for width in widths))
        self.statistics: dict[str, float] = {"episodes": 0, "return_sum": 0.0, "failed_rows": 0}

    def __len__(self) -> int:
        return self.size

    @property
    def data(self) -> Batch:
        """The transitions stored so far, as views."""
        return Batch(*(array[: self.size] for array in self._arrays))

    def add(
        self, obs: np.ndarray, action: np.ndarray, next_obs: np.ndarray, reward: np.ndarray, done: np.ndarray
    ) -> None:
        """Append a batch: obs (B, H), action (B, d), next_obs (B, H), reward (B,), done (B,).

        Raises:
            ValueError: an array has another shape or is not finite (named), or the batch does not fit.
        """
        batch = Batch(*(np.asarray(array, dtype=np.float32) for array in (obs, action, next_obs, reward, done)))
        rows = len(batch.obs)
        for name, array, own in zip(Batch._fields, batch, self._arrays, strict=True):
            if array.shape != (rows, *own.shape[1:]):
                raise ValueError(f"{name} has shape {array.shape}, this buffer takes {(rows, *own.shape[1:])}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} holds NaN or infinity")
        if self.size + rows > self.capacity:
            raise ValueError(f"{rows} transitions do not fit: {self.size} of {self.capacity} places are taken")
        for array, own in zip(batch, self._arrays, strict=True):
            own[self.size : self.size + rows] = array
        self.size += rows

    @classmethod
    def joined(cls, buffers: Sequence[ReplayBuffer]) -> ReplayBuffer:
        """Return one buffer with the transitions of all, in order, and their statistics summed."""
        whole = cls(sum(len(buffer) for buffer in buffers), buffers[0].obs_dim, buffers[0].action_dim)
        for buffer in buffers:
            whole.add(*buffer.data)
            for name, value in buffer.statistics.items():
                whole.statistics[name] += value
        return whole

    def sample(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """Return `batch_size` transitions, drawn uniformly with replacement."""
        if self.size == 0:
            raise ValueError("the buffer is empty")
        index = rng.integers(self.size, size=batch_size)
        return Batch(*(array[index] for array in self._arrays))

    def state_statistics(self, eps: float = 1e-3) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation plus `eps`, each (H,), of the observations (TD3+BC, section 5)."""
        obs = self.data.obs
        return obs.mean(0, dtype=np.float64).astype(np.float32), (obs.std(0, dtype=np.float64) + eps).astype(np.float32)

    def fingerprint(self) -> str:
        """Return a SHA-256 of the transitions: what a resumed training compares."""
        digest = hashlib.sha256()
        for array in self.data:
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def save(self, path: str | Path, progress: Mapping[str, Any] | None = None) -> None:
        """Save the stored transitions atomically; `progress` is `collect`'s own note."""
        shape = {"capacity": self.capacity, "obs_dim": self.obs_dim, "action_dim": self.action_dim}
        save_tree(path, {"shape": shape, "statistics": self.statistics, "progress": progress, **self.data._asdict()})

    @classmethod
    def load(cls, path: str | Path) -> ReplayBuffer:
        """Load what `save` saved."""
        return cls._from_tree(path, load_tree(path))

    @classmethod
    def _from_tree(cls, path: str | Path, tree: Mapping[str, Any]) -> ReplayBuffer:
        missing = {"shape", "statistics", *Batch._fields} - set(tree)
        if missing:
            raise ValueError(f"{path} is not a replay buffer: it has no {', '.join(sorted(missing))}")
        buffer = cls(**tree["shape"])
        buffer.add(**{name: tree[name] for name in Batch._fields})
        buffer.statistics = tree["statistics"]
        return buffer


def collect(
    vector_env: VectorEnv,
    policy: Policy,
    transitions: int,
    seed: int,
    *,
    path: str | Path | None = None,
    steps_per_chunk: int = 32,
    progress: bool = True,
) -> ReplayBuffer:
    """Collect transitions in batch; rows that failed are left out.

    The work is cut into chunks: a chunk resets every row with a seed made of `seed` and the chunk's number, and steps
    all rows `steps_per_chunk` times. With `path`, the buffer is saved after each chunk, and a later call with the same
    arguments goes on there: the result is the unbroken run's. A policy with randomness has a method `reset(seed)`,
    called at the beginning of each chunk.

    Args:
        vector_env: observations (N, H), actions (N, d), autoreset in the same step.
        policy: observations (N, H) to actions (N, d).
        transitions: how many to collect.
        seed: of everything.
        path: file of the buffer, e.g. `run/buffer.safetensors`.
        steps_per_chunk: steps of all rows between two resets; far longer than an episode, or late turns are rare.
        progress: show a bar.

    Raises:
        ValueError: the file at `path` was collected with other arguments, or the environment does not fit.
        RuntimeError: no row of a whole chunk was valid.
    """
    require_same_step(vector_env)
    (obs_dim,), (action_dim,) = vector_env.single_observation_space.shape, vector_env.single_action_space.shape
    rows = vector_env.num_envs
    settings = {"transitions": transitions, "seed": seed, "rows": rows, "steps_per_chunk": steps_per_chunk}
    buffer, chunk = ReplayBuffer(transitions, obs_dim, action_dim), 0
    if path is not None and Path(path).exists():
        tree = load_tree(path)
        buffer = ReplayBuffer._from_tree(path, tree)
        chunk = _resumed_chunk(path, tree["progress"], settings)
    with tqdm(total=transitions, initial=buffer.size, desc="collect", unit="turn", disable=not progress) as bar:
        while buffer.size < transitions:
            _collect_chunk(vector_env, policy, buffer, (seed, chunk), steps_per_chunk, bar)
            chunk += 1
            if path is not None:
                buffer.save(path, {**settings, "chunk": chunk})
    return buffer


def _resumed_chunk(path: str | Path, progress: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> int:
    saved = dict(progress or {})
    chunk = saved.pop("chunk", None)
    if saved != settings:
        raise ValueError(f"{path} was collected with {saved or 'unknown settings'}, this call has {dict(settings)}")
    return chunk


def _collect_chunk(
    env: VectorEnv, policy: Policy, buffer: ReplayBuffer, entropy: tuple[int, int], steps: int, bar: tqdm
) -> None:
    env_seed, policy_seed = (int(word) for word in np.random.SeedSequence(entropy).generate_state(2))
    if hasattr(policy, "reset"):
        policy.reset(policy_seed)
    before, errors, meter = buffer.size, set(), EpisodeMeter(env.num_envs)
    obs = np.array(env.reset(seed=env_seed)[0])  # a copy: an environment may write its next observations there
    for _ in range(steps):
        action = policy(obs)
        next_obs, reward, terminated, truncated, infos = env.step(action)
        valid = valid_rows(infos, env.num_envs)
        rows = np.flatnonzero(valid)[: buffer.capacity - buffer.size]
        buffer.add(obs[rows], action[rows], final_observations(next_obs, infos)[rows], reward[rows], terminated[rows])
        ended = terminated | truncated
        returns, _ = meter.step(reward, ended)
        buffer.statistics["episodes"] += int((ended & valid).sum())
        buffer.statistics["return_sum"] += float(returns[ended & valid].sum())
        buffer.statistics["failed_rows"] += int((~valid).sum())
        errors.update(row_errors(infos, env.num_envs))
        bar.update(len(rows))
        if buffer.size == buffer.capacity:
            return
        obs = np.array(next_obs)
    if buffer.size == before:
        reasons = "; ".join(sorted(map(str, errors)))
        raise RuntimeError(f"every row failed in all {steps} steps of chunk {entropy[1]}: {reasons}")
