"""TD3+BC: offline reinforcement learning with a behaviour-cloning term (Fujimoto and Gu, 2021, arXiv 2106.06860).

Twin delayed DDPG (arXiv 1802.09477, algorithm 1) on a fixed buffer; the actor maximises `lambda Q(s, pi(s))` minus the
squared distance to the buffer's action, with `lambda = alpha / mean |Q|` (equations 4 and 5).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import polyak_update
from torch.nn import functional as F
from tqdm import tqdm

from agents.buffers import Batch, ReplayBuffer
from agents.checkpoint import load_tree, save_tree
from agents.curves import STEPS_PER_SECOND
from agents.networks import ActionSet, Actor, ActorPolicy, Critics, into_set
from dialog_envs.names import look_up

CHECKPOINT = "td3_bc.safetensors"


@dataclass(frozen=True)
class TD3BCConfig:
    """Hyper-parameters; the defaults are the paper's (appendix C)."""

    alpha: float = 2.5
    """Weight of the value against behaviour cloning; larger trusts the critic more."""
    discount: float = 0.99
    """Discount of the reward per turn, in [0, 1]."""
    tau: float = 0.005
    """Share of the new weights in each update of the target networks, in (0, 1]."""
    policy_noise: float = 0.2
    """Standard deviation of the noise on the target action."""
    noise_clip: float = 0.5
    """Largest absolute noise on the target action."""
    policy_freq: int = 2
    """Critic updates per update of the actor and of the targets."""
    learning_rate: float = 3e-4
    """Of Adam, for the actor and for the critics."""
    batch_size: int = 256
    """Transitions per step."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of the actor and of each critic."""
    actions: ActionSet = "box"
    """Where actions lie. `"sphere"` and `"ball"` are for environments that project actions there: an actor in the box
    would be led to corners that the critics have not seen. Noise is then scaled by `d^-1/2`, so that its length does
    not grow with the action's size d, and the critics read actions times `d^1/2`."""
    critics: int = 2
    """Number of critics K: TD3's twins, or more, of which each target takes a random pair and the actor the mean."""
    dropout: float = 0.0
    """Share of hidden units that fitting the critics drops, in [0, 1)."""
    layer_norm: bool = False
    """Normalise the hidden layers of actor and critics."""
    normalize: bool = True
    """Normalise observations by the buffer's mean and standard deviation."""
    seed: int = 0
    """Of the initial weights, the drawn batches and the noise."""

    def __post_init__(self) -> None:
        for name in ("tau", "policy_freq", "learning_rate", "batch_size"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a positive number")
        if not 0 <= self.discount <= 1:
            raise ValueError(f"discount is {self.discount}, expected a number in [0, 1]")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected a number in [0, 1)")
        if self.critics < 2:
            raise ValueError(f"critics is {self.critics}, expected at least 2")
        look_up("set of actions", self.actions, {name: name for name in get_args(ActionSet)})


class TD3BC:
    """The learner: networks, optimisers, random generators and the step count; all of it is in a checkpoint.

    Two learners with the same configuration and buffer have bit-identical weights after the same number of steps on a
    CPU, however often either was stopped and resumed.

    Attributes:
        steps: gradient steps taken.
        history: one entry per logged step: `{"step": ..., "train/critic_loss": ..., ...}`.
    """

    def __init__(self, obs_dim: int, action_dim: int, config: TD3BCConfig = TD3BCConfig(), device: str = "cpu") -> None:
        self.config, self.device, self.steps = config, torch.device(device), 0
        self.noise_scale = 1.0 if config.actions == "box" else action_dim**-0.5
        with torch.random.fork_rng(devices=[]):  # the caller's generator is left where it was
            torch.manual_seed(config.seed)
            actor = Actor(obs_dim, action_dim, config.hidden, config.actions, config.layer_norm)
            sizes = (obs_dim, action_dim, config.hidden, config.critics)
            critic = Critics(*sizes, config.dropout, config.layer_norm, 1 / self.noise_scale)
        self.actor, self.critic = actor.to(self.device), critic.to(self.device)
        self.actor_target, self.critic_target = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=config.learning_rate, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=config.learning_rate, fused=True)
        self.mean = torch.zeros(obs_dim, device=self.device)
        self.std = torch.ones(obs_dim, device=self.device)
        self.noise_generator = torch.Generator(self.device).manual_seed(config.seed)
        self.batch_generator = np.random.default_rng(config.seed)
        self.history: list[dict[str, float]] = []
        self._window: dict[str, list[float]] = {}  # losses since the last logged step
        self._data: str | None = None  # fingerprint of the buffer trained on

    def train_step(self, batch: tuple[torch.Tensor, ...]) -> dict[str, float]:
        """Take one step on the tensors of a `Batch`, observations normalised; return the losses by tag."""
        obs, action, next_obs, reward, done = batch  # (B, H), (B, d), (B, H), (B,), (B,)
        c = self.config
        self.steps += 1
        with torch.no_grad():
            # Target action with clipped noise, target value: the smaller one of two critics'
            noise = torch.randn(action.shape, generator=self.noise_generator, device=self.device) * c.policy_noise
            noise = noise.clamp(-c.noise_clip, c.noise_clip) * self.noise_scale
            next_action = into_set(self.actor_target(next_obs) + noise, c.actions)
            next_value = self.critic_target.least(next_obs, next_action, self.noise_generator)  # (B,)
            target = reward + (1 - done) * c.discount * next_value

        value = self.critic(obs, action, self.noise_generator)  # (K, B)
        critic_loss = (value - target).square().mean(1).sum()
        self.critic_optimizer.zero_grad()
        critic_loss.backward()
        self.critic_optimizer.step()
        if self.steps % c.policy_freq:
            return {"train/critic_loss": critic_loss.item()}

        # Delayed: the actor, then both targets
        self.critic.requires_grad_(False)  # gradients are to reach the actor alone
        own_action = self.actor(obs)
        value = self.critic.climbed(obs, own_action)  # (B,)
        cloning_loss = F.mse_loss(own_action, action)
        actor_loss = -c.alpha / value.abs().mean().detach() * value.mean() + cloning_loss
        self.actor_optimizer.zero_grad()
        actor_loss.backward()
        self.actor_optimizer.step()
        self.critic.requires_grad_(True)
        polyak_update(self.critic.parameters(), self.critic_target.parameters(), c.tau)
        polyak_update(self.actor.parameters(), self.actor_target.parameters(), c.tau)
        losses = {"critic_loss": critic_loss, "actor_loss": actor_loss, "bc_loss": cloning_loss, "q_mean": value.mean()}
        return {f"train/{name}": loss.item() for name, loss in losses.items()}

    def train(
        self,
        buffer: ReplayBuffer,
        steps: int,
        *,
        logger: Logger | None = None,
        checkpoint_dir: str | Path | None = None,
        checkpoint_every: int = 1000,
        log_every: int = 100,
        evaluate: Callable[[ActorPolicy], Mapping[str, float]] | None = None,
        evaluate_every: int = 1000,
        progress: bool = True,
    ) -> None:
        """Train until `steps` gradient steps have been taken in all.

        Args:
            buffer: the transitions.
            steps: the step count to reach.
            logger: takes the mean losses every `log_every` steps (see `agents.curves.tensorboard_logger`).
            checkpoint_dir: where the whole state goes every `checkpoint_every` steps and at the end. A learner that has
                taken no step goes on from the checkpoint that lies there.
            evaluate: called every `evaluate_every` steps and at the end; what it returns is logged
                (`{"rollout/ep_rew_mean": ...}`).
            progress: show a bar.

        Raises:
            ValueError: the buffer has other sizes or is not the one the checkpoint was trained on, or that checkpoint
                is already past `steps`.
        """
        path = None if checkpoint_dir is None else Path(checkpoint_dir) / CHECKPOINT
        if path is not None and path.exists() and self.steps == 0:
            self.restore(path)
        if self.steps > steps:
            raise ValueError(f"this learner has already taken {self.steps} steps, more than the {steps} asked for")
        self._take(buffer)
        began, first_step = time.perf_counter(), self.steps
        with tqdm(total=steps, initial=self.steps, desc="TD3+BC", unit="step", disable=not progress) as bar:
            while self.steps < steps:
                losses = self.train_step(self._tensors(buffer.sample(self.config.batch_size, self.batch_generator)))
                for tag, loss in losses.items():
                    self._window.setdefault(tag, []).append(loss)
                scalars: dict[str, float] = {}
                if self.steps % log_every == 0 or self.steps == steps:
                    scalars = {tag: float(np.mean(window)) for tag, window in self._window.items()}
                    self._window = {}
                if evaluate is not None and (self.steps % evaluate_every == 0 or self.steps == steps):
                    scalars |= {tag: float(value) for tag, value in evaluate(self.policy()).items()}
                if scalars:
                    self._log(scalars, logger, (self.steps - first_step) / (time.perf_counter() - began))
                if path is not None and (self.steps % checkpoint_every == 0 or self.steps == steps):
                    self.save(path)
                bar.update()

    def _log(self, scalars: Mapping[str, float], logger: Logger | None, steps_per_second: float) -> None:
        self.history.append({"step": self.steps, **scalars})
        if logger is None:
            return
        for tag, value in scalars.items():
            logger.record(tag, value)
        logger.record(STEPS_PER_SECOND, steps_per_second)
        logger.dump(self.steps)

    def _take(self, buffer: ReplayBuffer) -> None:
        """Check the buffer, and take the state statistics from it before the first step."""
        expected = (self.actor.obs_dim, self.actor.action_dim)
        if (buffer.obs_dim, buffer.action_dim) != expected:
            raise ValueError(
                f"the buffer has observations and actions of sizes {(buffer.obs_dim, buffer.action_dim)}, "
                f"this learner takes {expected}"
            )
        data = buffer.fingerprint()
        if self._data is None:
            self._data = data
            if self.config.normalize:
                self.mean, self.std = (torch.from_numpy(a).to(self.device) for a in buffer.state_statistics())
        elif self._data != data:
            raise ValueError("the buffer is not the one that this learner has been trained on")

    def _tensors(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        obs, action, next_obs, reward, done = (torch.from_numpy(array).to(self.device) for array in batch)
        return (obs - self.mean) / self.std, action, (next_obs - self.mean) / self.std, reward, done

    def policy(self) -> ActorPolicy:
        """Return the present policy, as a copy: further training does not change it."""
        return ActorPolicy(copy.deepcopy(self.actor), self.mean.clone(), self.std.clone())

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Return the present policy's actions (N, action_dim) for observations (N, obs_dim); deterministic."""
        return ActorPolicy(self.actor, self.mean, self.std).act(obs)

    def _parts(self) -> dict[str, Any]:
        names = ("actor", "critic", "actor_target", "critic_target", "actor_optimizer", "critic_optimizer")
        return {name: getattr(self, name) for name in names}

    def save(self, path: str | Path) -> None:
        """Save the whole state atomically as one safetensors file."""
        tree: dict[str, Any] = {name: part.state_dict() for name, part in self._parts().items()}
        tree["config"] = asdict(self.config)
        tree["sizes"] = (self.actor.obs_dim, self.actor.action_dim)
        tree["generators"] = (self.noise_generator.get_state(), self.batch_generator.bit_generator.state)
        for name in ("steps", "mean", "std", "history", "_window", "_data"):
            tree[name] = getattr(self, name)
        save_tree(path, tree)

    def restore(self, path: str | Path) -> None:
        """Take the whole state from a file written by `save`.

        Raises:
            ValueError: it is of a learner with another configuration or other sizes.
        """
        self._restore(path, load_tree(path))

    def _restore(self, path: str | Path, tree: Mapping[str, Any]) -> None:
        if "actor_target" not in tree:
            raise ValueError(f"{path} is not a checkpoint of TD3+BC")
        own = {"config": asdict(self.config), "sizes": (self.actor.obs_dim, self.actor.action_dim)}
        for name, expected in own.items():
            if tree[name] != expected:
                raise ValueError(f"{path} has {name} {tree[name]}, this learner has {expected}")
        for name, part in self._parts().items():
            part.load_state_dict(tree[name])
        noise_state, batch_state = tree["generators"]
        self.noise_generator.set_state(noise_state)
        self.batch_generator.bit_generator.state = batch_state
        self.mean, self.std = tree["mean"].to(self.device), tree["std"].to(self.device)
        for name in ("steps", "history", "_window", "_data"):
            setattr(self, name, tree[name])

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> TD3BC:
        """Return a learner in the state that `save` wrote."""
        tree = load_tree(path)
        if "sizes" not in tree:
            raise ValueError(f"{path} is not a checkpoint of TD3+BC")
        learner = cls(*tree["sizes"], TD3BCConfig(**tree["config"]), device)
        learner._restore(path, tree)
        return learner
