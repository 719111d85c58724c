"""Joint REINFORCE for both generators of Partner Personas Generation (Lu et al., NAACL 2022, section 3.4).

A frozen critic's label R = +1 or -1 of the response is the reward of persona and response alike; both generators follow
-R * grad log P of what they generated. A baseline and a leash to the supervised start are options that the paper does
not have.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from stable_baselines3.common.logger import Logger
from torch import Tensor, nn
from tqdm import tqdm

from agents.checkpoint import load_tree, save_tree
from agents.curves import EPISODE_LENGTH, EPISODE_REWARD, STEPS_PER_SECOND
from agents.exchanges import (
    Critic,
    Draws,
    Exchange,
    Rollout,
    alike,
    judge,
    labels,
    measure,
    roll_out,
    second_opinion,
)
from dialog_envs.retry import Failure, Retry
from dialog_envs.speakers.ppg import Generator, PersonasGenerator, ResponseGenerator
from reward_models.precision import training_precision

CHECKPOINT = "reinforce.safetensors"
TRAINING, VALIDATION = 0, 1  # streams of dice
ROWS = 8  # texts whose gradient is computed at once


@dataclass(frozen=True)
class ReinforceConfig:
    """Hyper-parameters; the defaults are the paper's."""

    learning_rate: float = 5e-6
    """Of Adam."""
    batch_size: int = 20
    """Exchanges an update."""
    validate_every: int = 50
    """Updates between validations."""
    reward: Literal["label", "probability"] = "label"
    """The critic's label, +1 or -1 (the paper's), or its probability p as 2 p - 1."""
    baseline: Literal["none", "running", "batch"] = "none"
    """What is taken from the reward: nothing (the paper's), the mean of updates past, or the mean of the others in the
    batch."""
    baseline_decay: float = 0.95
    """Share of the running mean that an update keeps, in [0, 1)."""
    kl_weight: float = 0.0
    """Weight of log P / P_start of the generated texts, in nats, taken from the reward (0: the paper's)."""
    train_personas: bool = True
    """Whether the personas generator learns."""
    train_response: bool = True
    """Whether the response generator learns."""
    clip: float = 1.0
    """Longest gradient."""
    bf16: bool = False
    """Compute the gradient in bfloat16 where that loses nothing; texts are drawn in the model's own type."""
    draws: Draws = field(default_factory=Draws)
    """How tokens are drawn; on-policy at temperature 1 without a cut."""
    seed: int = 0
    """Of the order of the exchanges and of the dice."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "batch_size", "validate_every", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a positive number")
        for name, known in (("reward", ("label", "probability")), ("baseline", ("none", "running", "batch"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        if not 0 <= self.baseline_decay < 1:
            raise ValueError(f"baseline_decay is {self.baseline_decay}, expected a number in [0, 1)")
        if not self.kl_weight >= 0:
            raise ValueError(f"kl_weight is {self.kl_weight}, expected at least 0")
        if not (self.train_personas or self.train_response):
            raise ValueError("train_personas and train_response are both False: nothing would learn")


class Reinforce:
    """The learner. Stopped and resumed however often, it has the bits of one that was not, on a CPU.

    Args:
        personas: the supervised personas generator; changed in place.
        response: the supervised response generator; changed in place.
        critic: gives the reward; never changed.
        second: another critic, logged beside the first and never optimised, or None.
        config: hyper-parameters.
        retry: how often and how patiently a failing critic is asked again.

    Attributes:
        steps: updates taken.
        learning: the parts that learn, of `"personas"` and `"response"`.
        start: the supervised start of both, frozen.
        history: one entry a validation: `{"step": ..., "eval/reward": ..., ...}`.
    """

    def __init__(
        self,
        personas: PersonasGenerator,
        response: ResponseGenerator,
        critic: Critic,
        second: Critic | None = None,
        config: ReinforceConfig = ReinforceConfig(),
        retry: Retry = Retry(),
    ) -> None:
        self.personas, self.response, self.critic, self.second = personas, response, critic, second
        self.config, self.retry, self.steps = config, retry, 0
        self.start = {name: copy.deepcopy(part).eval().requires_grad_(False) for name, part in self._parts().items()}
        switches = {"personas": config.train_personas, "response": config.train_response}
        self.learning = [name for name, learns in switches.items() if learns]
        self._trained: list[nn.Parameter] = []
        for name, part in self._parts().items():
            part.eval().requires_grad_(switches[name])  # no dropout: what is differentiated is what was drawn from
            self._trained += [parameter for parameter in part.parameters() if switches[name]]
        self.optimizer = torch.optim.Adam(self._trained, lr=config.learning_rate)
        self.history: list[dict[str, float]] = []
        self._mean, self._weight = 0.0, 0.0  # running baseline, and the weight of what it has seen
        self._window: dict[str, list[float]] = {}
        self._source = ""

    def update(self, exchanges: Sequence[Exchange]) -> dict[str, float]:
        """Generate, judge and take one step; return numbers by tag. Where the critic failed nothing is learned."""
        c = self.config
        seeds = [(c.seed, TRAINING, self.steps, row) for row in range(len(exchanges))]
        rollout = roll_out(self.personas, self.response, exchanges, seeds, c.draws)
        judged = judge(self.critic, exchanges, rollout.responses, self.retry)
        self.steps += 1
        kept = [i for i, value in enumerate(judged) if not isinstance(value, Failure)]
        numbers = {"rollout/failed": (len(judged) - len(kept)) / len(judged)}
        if not kept:
            return numbers
        label, probability = labels(judged), np.array([judged[i] for i in kept])
        if self.second is not None:
            other = labels(judge(self.second, exchanges, rollout.responses, self.retry))
            numbers |= second_opinion("rollout", label, other)
        reward = label[kept] if c.reward == "label" else 2 * probability - 1
        rollout = rollout.at(kept)
        lengths = [len(a) + len(b) for a, b in zip(rollout.persona_ids, rollout.response_ids, strict=True)]
        numbers |= {EPISODE_REWARD: float(reward.mean()), EPISODE_LENGTH: float(np.mean(lengths))}
        return numbers | self._step(rollout, torch.from_numpy(reward - self._baseline(reward)).float())

    def _step(self, rollout: Rollout, advantage: Tensor) -> dict[str, float]:
        """Follow -advantage * grad log P, less the leash; texts of alike length are taken `ROWS` at once."""
        count = len(rollout.responses)
        total: dict[str, float] = {"train/loss": 0.0}
        self.optimizer.zero_grad(set_to_none=True)
        for rows in alike(*rollout.texts("response"), ROWS):
            few, value = rollout.at(rows), advantage[rows].to(self._trained[0].device)
            log_probs = []
            for name in self.learning:
                log_probs.append(self._log_prob(self._parts()[name], few, name))
                if self.config.kl_weight:
                    with torch.no_grad():
                        away = log_probs[-1] - self._log_prob(self.start[name], few, name)
                    total[f"train/kl_{name}"] = total.get(f"train/kl_{name}", 0.0) + away.sum().item() / count
                    value = value - self.config.kl_weight * away
            loss = -(value * sum(log_probs)).sum() / count
            loss.backward()
            total["train/loss"] += loss.item()
        norm = nn.utils.clip_grad_norm_(self._trained, self.config.clip)
        self.optimizer.step()
        return total | {"train/gradient_norm": norm.item()}

    def _log_prob(self, part: Generator, rollout: Rollout, name: str) -> Tensor:
        """Return log P of each text, `(N,)`."""
        with training_precision(self._trained[0].device, self.config.bf16):
            return part.log_prob(*rollout.texts(name))[0].sum(1)

    def _baseline(self, reward: np.ndarray) -> np.ndarray | float:
        """Return what is taken from each reward `(N,)`; it never depends on the reward itself."""
        c = self.config
        if c.baseline == "batch":
            return (reward.sum() - reward) / max(1, len(reward) - 1) if len(reward) > 1 else 0.0
        past = self._mean / self._weight if self._weight else 0.0
        self._mean = c.baseline_decay * self._mean + (1 - c.baseline_decay) * float(reward.mean())
        self._weight = c.baseline_decay * self._weight + 1 - c.baseline_decay
        return past if c.baseline == "running" else 0.0

    def train(
        self,
        exchanges: Sequence[Exchange],
        updates: int,
        *,
        validation: Sequence[Exchange] = (),
        logger: Logger | None = None,
        checkpoint_dir: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        """Train until `updates` updates have been taken in all.

        Args:
            exchanges: what is responded to; each is met once before any is met again.
            updates: the update count to reach.
            validation: measured before the first update, every `validate_every` updates and at the end.
            logger: takes the numbers at each validation (see `agents.curves.tensorboard_logger`).
            checkpoint_dir: where the whole state goes after each validation. A learner that has taken no update goes on
                from the checkpoint that lies there.
            progress: show a bar.

        Raises:
            ValueError: an exchange has no own persona, there are fewer than a batch, or the checkpoint is of another
                configuration, start, critic or data, or already past `updates`.
        """
        self._take(exchanges, validation)
        path = None if checkpoint_dir is None else Path(checkpoint_dir) / CHECKPOINT
        if path is not None and path.exists() and self.steps == 0:
            self.restore(path)
        if self.steps > updates:
            raise ValueError(f"this learner has already taken {self.steps} updates, more than the {updates} asked for")
        began, first = time.perf_counter(), self.steps
        if not self.history:
            self._validate(validation, logger, None)
        with tqdm(total=updates, initial=self.steps, desc="REINFORCE", unit="update", disable=not progress) as bar:
            while self.steps < updates:
                for tag, value in self.update([exchanges[i] for i in self._drawn(len(exchanges))]).items():
                    self._window.setdefault(tag, []).append(value)
                if self.steps % self.config.validate_every == 0 or self.steps == updates:
                    done = (self.steps - first) * self.config.batch_size
                    self._validate(validation, logger, done / (time.perf_counter() - began))
                    if path is not None:
                        self.save(path)
                bar.update()

    def _drawn(self, count: int) -> np.ndarray:
        """Return which exchanges the next update takes: a function of seed and step alone."""
        size = self.config.batch_size
        place = np.arange(self.steps * size, (self.steps + 1) * size)
        rounds = range(place[0] // count, place[-1] // count + 1)
        orders = {r: np.random.default_rng([self.config.seed, r]).permutation(count) for r in rounds}
        return np.array([orders[p // count][p % count] for p in place])

    def _validate(self, validation: Sequence[Exchange], logger: Logger | None, speed: float | None) -> None:
        scalars = {tag: float(np.mean(values)) for tag, values in self._window.items()}
        self._window = {}
        if validation:
            scalars |= self.validate(validation)
        self.history.append({"step": self.steps, **scalars})
        if logger is None:
            return
        for tag, value in scalars.items():
            logger.record(tag, value)
        if speed is not None:
            logger.record(STEPS_PER_SECOND, speed)
        logger.dump(self.steps)

    def validate(self, exchanges: Sequence[Exchange]) -> dict[str, float]:
        """Return what `agents.exchanges.measure` does of the present generators; the dice are the same each time."""
        seeds = [(self.config.seed, VALIDATION, row) for row in range(len(exchanges))]
        rollout = roll_out(self.personas, self.response, exchanges, seeds, self.config.draws)
        critics = [self.critic] if self.second is None else [self.critic, self.second]
        judged = [labels(judge(critic, exchanges, rollout.responses, self.retry)) for critic in critics]
        return measure(self._parts(), self.start, exchanges, rollout, judged)

    def _parts(self) -> dict[str, Generator]:
        return {"personas": self.personas, "response": self.response}

    def _take(self, exchanges: Sequence[Exchange], validation: Sequence[Exchange]) -> None:
        """Check the exchanges; note what a checkpoint must have been trained on."""
        if len(exchanges) < self.config.batch_size:
            raise ValueError(f"{len(exchanges)} exchanges, expected a batch of {self.config.batch_size} or more")
        for name, some in (("exchanges", exchanges), ("validation", validation)):
            for number, exchange in enumerate(some):
                if not exchange.persona.strip():
                    raise ValueError(f"{name}[{number}]: {exchange.speaker!r} has no persona to judge the response by")
        digest = hashlib.sha256(repr((list(exchanges), list(validation))).encode())
        judges = (self.critic, self.second)
        for part in (*judges, *(generator.lm for generator in self.start.values())):
            digest.update(b"none" if part is None else part.fingerprint().encode())
        self._source = digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Save the whole state atomically as one safetensors file."""
        tree: dict[str, Any] = {name: part.model.state_dict() for name, part in self._parts().items()}
        tree |= {"optimizer": self.optimizer.state_dict(), "config": asdict(self.config)}
        for name in ("steps", "history", "_mean", "_weight", "_window", "_source"):
            tree[name] = getattr(self, name)
        save_tree(path, tree)

    def restore(self, path: str | Path) -> None:
        """Take the whole state from a file written by `save`.

        Raises:
            ValueError: it is of a learner with another configuration, start, critic or data.
        """
        tree = load_tree(path)
        if "_source" not in tree:
            raise ValueError(f"{path} is not a checkpoint of REINFORCE")
        if tree["config"] != asdict(self.config):
            raise ValueError(f"{path} has config {tree['config']}, this learner has {asdict(self.config)}")
        if tree["_source"] != self._source:
            raise ValueError(f"{path} was trained from other generators, by another critic or on other exchanges")
        for name, part in self._parts().items():
            part.model.load_state_dict(tree[name])
        self.optimizer.load_state_dict(tree["optimizer"])
        for name in ("steps", "history", "_mean", "_weight", "_window"):
            setattr(self, name, tree[name])
