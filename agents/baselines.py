"""Baselines of the planner: random actions, a constant one, the best of some constant ones, the best of N by a fit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Box
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from agents.buffers import Batch, Policy, ReplayBuffer
from agents.checkpoint import load_tree, save_tree
from agents.networks import ActionSet, into_set

WEIGHT_DECAYS = (0.3, 1.0, 3.0, 10.0)  # tried by `fit_best_of_n`
ENSEMBLE = 5


class RandomPolicy:
    """Draw actions at random: uniformly in the box, on the unit sphere, or in the unit ball (uniform in length).

    Sphere and ball are the fair choice where the environment projects actions there: a box has too many towards its
    corners.

    Args:
        action_space: of one row, `Box(-1, 1, (d,))` or any other bounded box of one axis.
        seed: of the draws.
        actions: the set; the box must contain it.
    """

    def __init__(self, action_space: Box, seed: int, actions: ActionSet = "box") -> None:
        if not isinstance(action_space, Box) or len(action_space.shape) != 1 or not action_space.is_bounded():
            raise ValueError(f"action space is {action_space}, expected a bounded Box of one axis")
        if actions != "box" and not ((action_space.low <= -1).all() and (action_space.high >= 1).all()):
            raise ValueError(f"action space {action_space} does not contain the unit {actions}")
        self.action_space, self.actions = action_space, actions
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Start the draws anew."""
        self.generator = np.random.default_rng(seed)

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Return actions (N, d), float32, for observations (N, H)."""
        shape = (len(obs), *self.action_space.shape)
        if self.actions == "box":
            drawn = self.generator.uniform(self.action_space.low, self.action_space.high, shape)
        else:
            drawn = self.generator.standard_normal(shape)
            drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        if self.actions == "ball":
            drawn *= self.generator.random((len(obs), 1))
        return drawn.astype(np.float32)


class ExploringPolicy:
    """A policy with noise, and now and then a random action: what a learner's later rounds of data are collected under.

    Args:
        policy: observations (N, H) to actions (N, d) of a set.
        random: draws from that set.
        noise: length of the Gaussian noise (its standard deviation times the square root of d).
        random_share: probability, a row and a turn, of the random action instead.
    """

    def __init__(self, policy: Policy, random: RandomPolicy, noise: float, random_share: float) -> None:
        if noise < 0 or not 0 <= random_share <= 1:
            raise ValueError(f"noise {noise} must not be negative, random_share {random_share} must be in [0, 1]")
        self.policy, self.random, self.noise, self.random_share = policy, random, noise, random_share

    def reset(self, seed: int) -> None:
        """Start the draws anew."""
        self.random.reset(seed)

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Return actions (N, d), float32, for observations (N, H)."""
        draws, drawn = self.random.generator, self.random(obs)
        noisy = self.policy(obs) + draws.standard_normal(drawn.shape) * self.noise / drawn.shape[1] ** 0.5
        chosen = np.where(draws.random((len(obs), 1)) < self.random_share, drawn, noisy)
        return into_set(torch.from_numpy(chosen), self.random.actions).numpy().astype(np.float32)


class ConstantPolicy:
    """Take one action (d,) in every state."""

    def __init__(self, action: np.ndarray) -> None:
        self.action = np.asarray(action, dtype=np.float32)
        if self.action.ndim != 1 or not np.isfinite(self.action).all():
            raise ValueError(f"action of shape {self.action.shape} must have one axis and finite numbers")

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Return actions (N, d) for observations (N, H)."""
        return np.tile(self.action, (len(obs), 1))

    def save(self, path: str | Path) -> None:
        """Save the action as one safetensors file."""
        save_tree(path, {"action": self.action})

    @classmethod
    def load(cls, path: str | Path) -> ConstantPolicy:
        """Load what `save` saved."""
        return cls(load_tree(path)["action"])


class ZeroPolicy(ConstantPolicy):
    """Take the action 0: on a cloned base the unsteered model."""

    def __init__(self, action_dim: int) -> None:
        super().__init__(np.zeros(action_dim, dtype=np.float32))


@dataclass(frozen=True)
class CandidateResult:
    """What the search knows of a candidate: its index, rounds survived, valid episodes, mean reward, standard error."""

    candidate: int
    rounds: int
    episodes: int
    mean_reward: float
    standard_error: float


def best_fixed_action(
    evaluate: Callable[[np.ndarray], np.ndarray], candidates: np.ndarray
) -> tuple[np.ndarray, list[CandidateResult]]:
    """Choose the constant action of the highest mean reward by successive halving (Karnin et al., 2013).

    Every round evaluates the surviving candidates and keeps the better half by the mean over all episodes so far. Round
    r calls `evaluate` 2^r times, so every round costs about the same. The winner's mean is biased upwards (it was
    chosen for it): report a new evaluation, on held-out scenarios.

    Args:
        evaluate: actions (K, d) to rewards (K, M) of M episodes each, NaN for a failed one; the columns are *training*
            scenarios, the same ones for each row, and new ones (or new seeds) at every call.
        candidates: actions (K, d).

    Returns:
        The action (d,), and one result per candidate, best first: by rounds survived, then by mean reward.

    Raises:
        ValueError: `candidates` or the rewards have another shape.
        RuntimeError: every episode failed.
    """
    candidates = np.asarray(candidates, dtype=np.float32)
    if candidates.ndim != 2 or len(candidates) == 0 or not np.isfinite(candidates).all():
        raise ValueError(f"candidates have shape {candidates.shape}, expected (K, d) finite numbers with K > 0")
    rewards: list[list[float]] = [[] for _ in candidates]
    rounds = np.zeros(len(candidates), dtype=int)
    survivors = np.arange(len(candidates))
    calls = 1
    while True:
        for _ in range(calls):
            for index, row in zip(survivors, _rewards_of(evaluate, candidates[survivors]), strict=True):
                rewards[index].extend(row[np.isfinite(row)].tolist())
        rounds[survivors] += 1
        means = np.array([np.mean(rewards[index]) if rewards[index] else -np.inf for index in survivors])
        survivors = survivors[np.argsort(-means, kind="stable")]
        if len(survivors) <= 2:
            break
        survivors, calls = np.sort(survivors[: (len(survivors) + 1) // 2]), calls * 2
    if not any(rewards):
        raise RuntimeError("every episode of every candidate failed")
    table = [_result(index, int(rounds[index]), rewards[index]) for index in range(len(candidates))]
    table.sort(key=lambda result: (-result.rounds, -result.mean_reward))
    return candidates[survivors[0]], table


def halving_evaluations(candidates: int) -> int:
    """Return how many (candidate, call) pairs `best_fixed_action` evaluates: its cost in M episodes each."""
    total, calls = candidates, 1
    while candidates > 2:
        candidates, calls = (candidates + 1) // 2, 2 * calls
        total += candidates * calls
    return total


def _rewards_of(evaluate: Callable[[np.ndarray], np.ndarray], actions: np.ndarray) -> np.ndarray:
    rewards = np.asarray(evaluate(actions), dtype=np.float64)
    if rewards.ndim != 2 or len(rewards) != len(actions):
        raise ValueError(f"evaluate returned rewards of shape {rewards.shape}, expected ({len(actions)}, episodes)")
    return rewards


def _result(index: int, rounds: int, rewards: list[float]) -> CandidateResult:
    mean = float(np.mean(rewards)) if rewards else float("-inf")
    error = float(np.std(rewards, ddof=1) / len(rewards) ** 0.5) if len(rewards) > 1 else float("nan")
    return CandidateResult(index, rounds, len(rewards), mean, error)


class BestOfNPolicy:
    """Take, in each state, the best of N fixed actions by a fit of the return (see `fit_best_of_n`).

    Args:
        networks: perceptrons with ReLU between layers, each a list of weights (in, out) and a list of biases (out,);
            their mean is the fit.
        mean: what is subtracted from a state with an action, (H + d,).
        std: what the difference is divided by, (H + d,).
        actions: the N actions (N, d) to choose from.
    """

    def __init__(
        self,
        networks: Sequence[tuple[Sequence[np.ndarray], Sequence[np.ndarray]]],
        mean: np.ndarray,
        std: np.ndarray,
        actions: np.ndarray,
    ) -> None:
        self.networks, self.mean, self.std, self.actions = networks, mean, std, actions

    def values(self, obs: np.ndarray) -> np.ndarray:
        """Return the fitted return (B, N) of each action in each observation (B, H).

        Raises:
            ValueError: the observations are of another width.
        """
        obs, width = np.asarray(obs), len(self.mean) - self.actions.shape[1]
        if obs.ndim != 2 or obs.shape[1] != width:
            raise ValueError(f"observation has shape {obs.shape}, this policy takes (B, {width})")
        rows = [np.hstack([np.tile(one, (len(self.actions), 1)), self.actions]) for one in obs]
        x = (np.concatenate(rows) - self.mean) / self.std  # (B * N, H + d)
        return np.mean([_perceptron(x, *network) for network in self.networks], 0).reshape(len(obs), -1)

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        """Return actions (B, d) for observations (B, H); deterministic."""
        return self.actions[self.values(obs).argmax(1)]

    def save(self, path: str | Path) -> None:
        """Save the policy as one safetensors file."""
        save_tree(path, vars(self))

    @classmethod
    def load(cls, path: str | Path) -> BestOfNPolicy:
        """Load what `save` saved."""
        return cls(**load_tree(path))


def fit_best_of_n(buffer: ReplayBuffer, choices: int, discount: float, seed: int) -> tuple[BestOfNPolicy, float]:
    """Return the policy that takes the best of N random actions by a fit of what random behaviour went on to earn.

    It is what the offline buffer gives without reinforcement learning: a regression of the return-to-go (the rewards
    from a transition to the end of its episode) on (state, action), by five small perceptrons that start differently,
    and one step of policy improvement: the action of the highest fitted return among N of the buffer's own actions,
    drawn once, so that the choice is a function of the state alone. The weight decay is the best one on the last fifth
    of the buffer; then all of it is fitted.

    Args:
        buffer: transitions under random actions.
        choices: N.
        discount: of the rewards, a turn.
        seed: of the drawn actions and the networks.

    Returns:
        The policy, and the share of the returns' variance that the chosen fit explained on the last fifth.

    Raises:
        ValueError: the buffer has fewer than 20 transitions whose episode ends in it, or fewer than N at all.
    """
    returns = returns_to_go(buffer.data, discount)
    whole = np.isfinite(returns)
    if whole.sum() < 20:
        raise ValueError(f"{whole.sum()} transitions with a whole episode after them, expected at least 20")
    if len(buffer) < choices:
        raise ValueError(f"{choices} actions to choose from, but the buffer has {len(buffer)}")
    x, y = np.hstack([buffer.data.obs, buffer.data.action])[whole].astype(np.float64), returns[whole]
    mean, std = x.mean(0), x.std(0) + 1e-3
    x = (x - mean) / std
    first = np.arange(len(y)) < 0.8 * len(y)  # by time: episodes lie together, so hardly one is on both sides

    def explained(weight_decay: float) -> float:
        fits = [_fit_perceptron(x[first], y[first], weight_decay, seed + i) for i in range(ENSEMBLE)]
        errors = np.mean([_perceptron(x[~first], *fit) for fit in fits], 0) - y[~first]
        return float(1 - np.mean(errors**2) / max(np.var(y[~first]), 1e-12))

    score, best = max((explained(weight_decay), weight_decay) for weight_decay in WEIGHT_DECAYS)
    networks = [_fit_perceptron(x, y, best, seed + i) for i in range(ENSEMBLE)]
    drawn = np.random.default_rng(seed).choice(len(buffer), choices, replace=False)
    return BestOfNPolicy(networks, mean, std, buffer.data.action[drawn]), score


def returns_to_go(data: Batch, discount: float) -> np.ndarray:
    """Return each transition's discounted rewards to the end of its episode, (B,); NaN where the end is not there.

    Transitions are as `collect` stores them: those of one episode in order, with other episodes' between them. One
    follows another where its `obs` is the other's `next_obs`, bit for bit.
    """
    returns = np.full(len(data.reward), np.nan)
    following: dict[bytes, int] = {}  # observation -> the nearest later transition that starts there
    for i in reversed(range(len(returns))):
        after = following.get(data.next_obs[i].tobytes())
        if data.done[i]:
            returns[i] = data.reward[i]
        elif after is not None:
            returns[i] = data.reward[i] + discount * returns[after]
        following[data.obs[i].tobytes()] = i
    return returns


def _fit_perceptron(
    x: np.ndarray, y: np.ndarray, weight_decay: float, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    network = MLPRegressor(
        hidden_layer_sizes=(64, 64),
        alpha=weight_decay,
        early_stopping=True,
        n_iter_no_change=8,
        max_iter=60,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 60 passes are enough, whether or not it could go on
        network.fit(x, y)
    return network.coefs_, network.intercepts_


def _perceptron(x: np.ndarray, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]) -> np.ndarray:
    """Return the output (B,) of a perceptron with one output for inputs (B, in)."""
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = np.maximum(x @ weight + bias, 0)
    return (x @ weights[-1] + biases[-1])[:, 0]
