"""Policies that learn nothing: random actions, a policy with noise, a constant action."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gymnasium.spaces import Box

from agents.buffers import Policy
from agents.checkpoint import load_tree, save_tree
from agents.networks import ActionSet, into_set


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
    """A policy with noise, and now and then a random action: how later transitions are collected, and planners played.

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
