"""The networks of the planner: a deterministic actor, two critics in one stacked network, and a policy to ship."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from agents.checkpoint import load_tree, save_tree

ActionSet = Literal["box", "ball", "sphere"]
"""Which of the box's actions differ: all, those in the unit ball, or (where length does not count) on the sphere."""


def into_set(vectors: torch.Tensor, actions: ActionSet) -> torch.Tensor:
    """Return the action (B, d) of a set that stands for each vector; gradients pass."""
    if actions == "box":
        return vectors.clamp(-1, 1)
    if actions == "ball":
        return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1)
    return F.normalize(vectors, dim=-1)


class Actor(nn.Module):
    """A perceptron with ReLU between layers: (B, obs_dim) -> (B, action_dim) in a set of actions.

    In the box by a tanh at the end, in the ball and on the sphere by the projection.
    """

    def __init__(
        self, obs_dim: int, action_dim: int, hidden: Sequence[int] = (256, 256), actions: ActionSet = "box"
    ) -> None:
        super().__init__()
        self.obs_dim, self.action_dim, self.hidden, self.actions = obs_dim, action_dim, tuple(hidden), actions
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise((obs_dim, *hidden, action_dim)):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """Return actions (B, action_dim) for observations (B, obs_dim)."""
        vectors = self.layers(obs)
        return vectors.tanh() if self.actions == "box" else into_set(vectors, self.actions)


class StackedLinear(nn.Module):
    """K independent linear layers in one batched product: (K, B, in) -> (K, B, out); initialised as `nn.Linear` is."""

    def __init__(self, copies: int, width_in: int, width_out: int) -> None:
        super().__init__()
        bound = width_in**-0.5
        self.weight = nn.Parameter(torch.empty(copies, width_in, width_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(copies, 1, width_out).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (K, B, out) for (K, B, in)."""
        return torch.baddbmm(self.bias, x, self.weight)


class TwinCritic(nn.Module):
    """Two action-value functions of one shape, evaluated together (clipped double Q-learning).

    With `dropout`, hidden layers are normalised, and fitting drops that share of their units (DroQ, Hiraoka et al.,
    2022, arXiv 2110.02034): some thousands of transitions are soon learned by heart without it.

    Args:
        obs_dim, action_dim, hidden: the sizes.
        dropout: share in [0, 1); 0 for the plain critics of TD3.
        action_scale: what actions are multiplied with, so that their entries are about as large as the observation's.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden: Sequence[int] = (256, 256),
        dropout: float = 0.0,
        action_scale: float = 1.0,
    ) -> None:
        super().__init__()
        widths = (obs_dim + action_dim, *hidden, 1)
        self.dropout, self.action_scale = dropout, action_scale
        self.layers = nn.ModuleList(StackedLinear(2, a, b) for a, b in pairwise(widths))

    def forward(
        self, obs: torch.Tensor, action: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return both values (2, B) of observations (B, obs_dim) and actions (B, action_dim).

        Units are dropped where a generator is given.
        """
        x = self._input(obs, action).expand(2, -1, -1)  # (2, B, obs_dim + action_dim)
        for layer in self.layers[:-1]:
            x = self._activation(layer(x), generator)
        return self.layers[-1](x).squeeze(-1)  # (2, B)

    def first(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Return the first value (B,) alone, with its weights as constants: gradients reach the action only."""
        x = self._input(obs, action)
        for index, layer in enumerate(self.layers):
            x = torch.addmm(layer.bias[0].detach(), x, layer.weight[0].detach())
            x = self._activation(x) if index + 1 < len(self.layers) else x
        return x.squeeze(-1)  # (B,)

    def _input(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return torch.cat([obs, action * self.action_scale], dim=-1)

    def _activation(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        if not self.dropout:
            return x.relu()
        if generator is not None:
            x = x * torch.empty_like(x).bernoulli_(1 - self.dropout, generator=generator) / (1 - self.dropout)
        return F.layer_norm(x, x.shape[-1:]).relu()


class ActorPolicy:
    """A trained actor with its state normalisation: all that is needed to act, and nothing that is needed to train.

    Attributes:
        actor: the network.
        mean, std: statistics (obs_dim,) by which observations are normalised.
    """

    def __init__(self, actor: Actor, mean: torch.Tensor, std: torch.Tensor) -> None:
        self.actor, self.mean, self.std = actor, mean, std

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Return actions (N, action_dim) in [-1, 1] for observations (N, obs_dim), or one for one; deterministic.

        Raises:
            ValueError: the observations are of another width, or not finite.
        """
        obs = np.asarray(obs, dtype=np.float32)
        if obs.ndim not in (1, 2) or obs.shape[-1] != self.actor.obs_dim:
            raise ValueError(f"observation has shape {obs.shape}, this policy takes (N, {self.actor.obs_dim})")
        if not np.isfinite(obs).all():
            raise ValueError("observation holds NaN or infinity")
        with torch.no_grad():
            normalised = (torch.from_numpy(obs).to(self.mean.device) - self.mean) / self.std
            return self.actor(normalised).cpu().numpy()

    __call__ = act

    def save(self, path: str | Path) -> None:
        """Save the policy as one safetensors file."""
        shape = {name: getattr(self.actor, name) for name in ("obs_dim", "action_dim", "hidden", "actions")}
        save_tree(path, {"shape": shape, "actor": self.actor.state_dict(), "mean": self.mean, "std": self.std})

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> ActorPolicy:
        """Load what `save` saved."""
        tree = load_tree(path)
        if "shape" not in tree:
            raise ValueError(f"{path} is a checkpoint, but not of a policy")
        actor = Actor(**tree["shape"])
        actor.load_state_dict(tree["actor"])
        return cls(actor.to(device).eval(), tree["mean"].to(device), tree["std"].to(device))
