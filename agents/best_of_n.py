"""The best of N random actions by a fit of what random behaviour went on to earn: no reinforcement learning."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from agents.buffers import Batch, ReplayBuffer
from agents.checkpoint import load_tree, save_tree

WEIGHT_DECAYS = (0.3, 1.0, 3.0, 10.0)  # tried by `fit_best_of_n`
ENSEMBLE = 5


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
