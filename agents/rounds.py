"""TD3+BC in rounds: random transitions first, then transitions of the planner learned so far; offline in each round.

One offline data set of random actions shows little of what a good planner meets in later turns. A few deployments
(Matsushima et al., 2021, arXiv 2006.03647) mend that, and every fit stays offline: from new networks, on all
transitions so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from gymnasium.vector import VectorEnv

from agents.baselines import ExploringPolicy, RandomPolicy
from agents.buffers import Policy, ReplayBuffer, collect
from agents.curves import tensorboard_logger
from agents.td3_bc import TD3BC, TD3BCConfig

ROUND_SEEDS = 1_000_000  # a round's number times this is added to the seed of its dialogues
BUFFER = "buffer.safetensors"
CHECKPOINT_EVERY = 250  # gradient steps: seconds of work
FEW_TRANSITIONS = TD3BCConfig(learning_rate=1e-3, critics=5, dropout=0.5, layer_norm=True)
"""TD3+BC for some thousands of transitions, which the paper's settings would learn by heart."""


@dataclass(frozen=True)
class Rounds:
    """How many transitions, and how they are collected."""

    transitions: int = 5_120
    """Environment steps, shared by the rounds."""
    rounds: int = 5
    """Rounds; the first is collected under random actions, and 1 learns from them alone."""
    steps: int = 1_500
    """Gradient steps in each round."""
    noise: float = 0.5
    """Length of the noise on the planner's actions in the later rounds, where 1 is an action's own."""
    random_share: float = 0.2
    """Share of random actions in the later rounds."""

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= self.transitions:
            raise ValueError(f"{self.rounds} rounds of {self.transitions} transitions, expected at least one of each")


def train_in_rounds(
    env: VectorEnv,
    settings: TD3BCConfig,
    plan: Rounds,
    folder: Path,
    measure: Callable[[int, Policy], Mapping[str, float]] | None = None,
    progress: bool = True,
    first: Path | None = None,
) -> tuple[TD3BC, ReplayBuffer]:
    """Train a planner; return the last learner and all transitions.

    A run that was killed goes on from its files and ends as the unbroken one.

    Args:
        env: where transitions are collected, with autoreset in the same step. What partner and judge have spent is
            logged, if it has `scalars`.
        settings: of the learner; its seed is the seed of everything.
        plan: how many of what.
        folder: each round has a folder in it, with its transitions and checkpoint; the events are TensorBoard's.
        measure: called with (environment steps so far, planner) after each round; what it returns is logged.
        progress: show bars.
        first: file of the first round's transitions, where several planners share them (default: in its folder).
    """
    random = RandomPolicy(env.single_action_space, settings.seed, actions=settings.actions)
    explorer: Policy = random
    buffers: list[ReplayBuffer] = []
    folder.mkdir(parents=True, exist_ok=True)
    events = tensorboard_logger(folder)
    for number, (begin, end) in enumerate(pairwise(np.linspace(0, plan.transitions, plan.rounds + 1).astype(int))):
        place = folder / f"round_{number}"
        place.mkdir(exist_ok=True)
        seed = settings.seed + ROUND_SEEDS * number
        path = first if first is not None and number == 0 else place / BUFFER
        buffers.append(collect(env, explorer, int(end - begin), seed, path=path, progress=progress))
        whole = ReplayBuffer.joined(buffers)
        learner = TD3BC(whole.obs_dim, whole.action_dim, settings)
        learner.train(
            whole,
            plan.steps,
            logger=tensorboard_logger(place),
            checkpoint_dir=place,
            checkpoint_every=CHECKPOINT_EVERY,
            progress=progress,
        )
        explorer = ExploringPolicy(learner.policy(), random, plan.noise, plan.random_share)
        spent = getattr(env.unwrapped, "scalars", dict)()
        for tag, value in (spent | dict(measure(int(end), learner.policy()) if measure else {})).items():
            events.record(tag, value)
        events.dump(int(end))
    events.close()
    return learner, whole
