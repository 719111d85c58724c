"""The networks of the planner: a deterministic actor, critics in one stacked network, and a policy to ship."""

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

    In the box by a tanh at the end, in the ball and on the sphere by the projection. With `layer_norm`, the hidden
    layers are normalised.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden: Sequence[int] = (256, 256),
        actions: ActionSet = "box",
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.obs_dim, self.action_dim, self.hidden = obs_dim, action_dim, tuple(hidden)
        self.actions, self.layer_norm = actions, layer_norm
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise((obs_dim, *hidden)):
            layers += [nn.Linear(width_in, width_out), *([nn.LayerNorm(width_out)] if layer_norm else []), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear((obs_dim, *hidden)[-1], action_dim))

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


class StackedNorm(nn.Module):
    """K independent layer normalisations of (K, B, width)."""

    def __init__(self, copies: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(copies, 1, width))
        self.bias = nn.Parameter(torch.zeros(copies, 1, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (K, B, width) for (K, B, width)."""
        return torch.addcmul(self.bias, F.layer_norm(x, x.shape[-1:]), self.weight)


class Critics(nn.Module):
    """Some action-value functions of one shape, evaluated together.

    Two are TD3's twins. With more, the actor climbs their mean, and a target takes the smaller one of a random pair
    (REDQ, Chen et al., 2021, arXiv 2101.05982): what one of them made of the noise, the others did not.
    With `dropout`, fitting drops that share of the hidden units (as DroQ, Hiraoka et al., 2022, arXiv 2110.02034):
    some thousands of transitions are soon learned by heart without it.

    Args:
        obs_dim, action_dim, hidden: the sizes.
        copies: number of functions K, at least 2.
        dropout: share in [0, 1).
        layer_norm: normalise hidden layers.
        action_scale: what actions are multiplied with, so that their entries are about as large as the observation's.
    """

    def __init__(
        self,
        obs_dim: int,
        action_dim: int,
        hidden: Sequence[int] = (256, 256),
        copies: int = 2,
        dropout: float = 0.0,
        layer_norm: bool = False,
        action_scale: float = 1.0,
    ) -> None:
        super().__init__()
        widths = (obs_dim + action_dim, *hidden, 1)
        self.copies, self.dropout, self.action_scale = copies, dropout, action_scale
        self.layers = nn.ModuleList(StackedLinear(copies, a, b) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(StackedNorm(copies, width) if layer_norm else nn.Identity() for width in hidden)

    def forward(
        self, obs: torch.Tensor, action: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return all values (K, B) of observations (B, obs_dim) and actions (B, action_dim).

        Units are dropped where a generator is given.
        """
        x = torch.cat([obs, action * self.action_scale], dim=-1)
        x = x.expand(self.copies, -1, -1)  # (K, B, obs_dim + action_dim)
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = norm(layer(x)).relu()
            if generator is not None and self.dropout:
                x = x * torch.empty_like(x).bernoulli_(1 - self.dropout, generator=generator) / (1 - self.dropout)
        return self.layers[-1](x).squeeze(-1)  # (K, B)

    def least(self, obs: torch.Tensor, action: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the smaller value (B,) of the two, or of a random pair of them."""
        values = self(obs, action)
        if self.copies > 2:
            values = values[torch.randperm(self.copies, generator=generator, device=values.device)[:2]]
        return values.amin(0)

    def climbed(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Return what the actor climbs, (B,): the first of two, the mean of more."""
        values = self(obs, action)
        return values[0] if self.copies == 2 else values.mean(0)


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
        names = ("obs_dim", "action_dim", "hidden", "actions", "layer_norm")
        shape = {name: getattr(self.actor, name) for name in names}
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
