"""TD3+BC in rounds: what is collected under what, and a killed run that ends as the unbroken one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv

from agents import rounds
from agents.rounds import Rounds, train_in_rounds
from agents.td3_bc import TD3BCConfig

SETTINGS = TD3BCConfig(hidden=(16,), batch_size=32, learning_rate=3e-3, alpha=10.0, actions="sphere", seed=3)
PLAN = Rounds(transitions=400, rounds=4, steps=150)


class Aim(VectorEnv):
    """One step: the nearer the action is to a direction, the better."""

    def __init__(self) -> None:
        self.num_envs, self.metadata = 4, {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.single_action_space = Box(-1, 1, (2,)), Box(-1, 1, (3,))

    def reset(self, *, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        return self._observe(), {}

    def step(self, actions):
        ended = np.ones(4, dtype=bool)
        return self._observe(), actions[:, 0].astype(float), ended, ~ended, {}

    def _observe(self) -> np.ndarray:
        return self.rng.uniform(-1, 1, (4, 2)).astype(np.float32)


def test_later_rounds_are_collected_under_what_was_learned(tmp_path):
    points = []
    learner, transitions = train_in_rounds(Aim(), SETTINGS, PLAN, tmp_path, lambda n, _: points.append(n) or {}, False)
    rewards = transitions.data.reward.reshape(4, 100).mean(1)
    assert points == [100, 200, 300, 400] and learner.steps == PLAN.steps
    assert abs(rewards[0]) < 0.2 and rewards[-1] > 0.5
    assert learner.policy()(np.zeros((1, 2), np.float32))[0, 0] > 0.7


def test_a_killed_run_ends_as_the_unbroken_one(tmp_path, monkeypatch):
    unbroken, whole = train_in_rounds(Aim(), SETTINGS, PLAN, tmp_path / "unbroken", progress=False)
    collect, calls = rounds.collect, []

    def dying(*arguments, **more):
        calls.append(1)
        if len(calls) in (2, 6):
            raise KeyboardInterrupt
        return collect(*arguments, **more)

    monkeypatch.setattr(rounds, "collect", dying)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_in_rounds(Aim(), SETTINGS, PLAN, tmp_path / "broken", progress=False)
    learner, transitions = train_in_rounds(Aim(), SETTINGS, PLAN, tmp_path / "broken", progress=False)
    assert transitions.fingerprint() == whole.fingerprint()
    obs = np.linspace(-1, 1, 10, dtype=np.float32).reshape(5, 2)
    assert np.array_equal(learner.policy()(obs), unbroken.policy()(obs))


def test_what_is_measured_reaches_tensorboard(tmp_path: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plan = replace(PLAN, transitions=20, rounds=2, steps=2)
    train_in_rounds(Aim(), SETTINGS, plan, tmp_path, lambda n, _: {"watch/x": n / 10}, False)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("watch/x")] == [(10, 1.0), (20, 2.0)]


def test_no_round_without_a_transition():
    with pytest.raises(ValueError, match="5 rounds of 4 transitions"):
        Rounds(transitions=4, rounds=5)
