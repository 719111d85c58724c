"""The policies that learn nothing, and the search for the best constant action."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gymnasium.spaces import Box

from agents.baselines import ConstantPolicy, ExploringPolicy, RandomPolicy, ZeroPolicy
from agents.best_of_n import BestOfNPolicy, fit_best_of_n, returns_to_go
from agents.buffers import Batch, ReplayBuffer, final_observations, valid_rows
from agents.fixed_action import best_fixed_action, halving_evaluations
from tests.agents.conftest import ToyVectorEnv, toy_buffer

SPACE = Box(-1, 1, (3,), np.float32)
OBS = np.zeros((500, 7), dtype=np.float32)


def test_random_actions_fill_their_set() -> None:
    box = RandomPolicy(SPACE, 0)(OBS)
    assert box.shape == (500, 3) and box.dtype == np.float32 and SPACE.contains(box[0])
    assert np.abs(box).max() > 0.98 and np.abs(box.mean(0)).max() < 0.1
    sphere, ball = RandomPolicy(SPACE, 0, "sphere")(OBS), RandomPolicy(SPACE, 0, "ball")(OBS)
    np.testing.assert_allclose(np.linalg.norm(sphere, axis=1), 1, rtol=1e-5)
    lengths = np.linalg.norm(ball, axis=1)
    assert lengths.max() < 1 + 1e-6 and lengths.mean() == pytest.approx(0.5, abs=0.05)
    assert max(np.abs(sphere.mean(0)).max(), np.abs(ball.mean(0)).max()) < 0.1


def test_exploration_is_the_policy_with_noise_of_the_length_asked_for_and_random_actions() -> None:
    own = np.array([0.0, 1.0, 0.0], np.float32)
    policy = ExploringPolicy(ConstantPolicy(own), RandomPolicy(SPACE, 0, "sphere"), 0.3, 0.25)
    drawn = policy(OBS)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1, rtol=1e-5)
    assert drawn.dtype == np.float32
    near = drawn @ own > 0.5  # of the random ones a quarter is as near
    assert 1 - near.mean() == pytest.approx(0.25 * 0.75, abs=0.05)
    policy.reset(0)
    np.testing.assert_array_equal(policy(OBS), drawn)
    noisy = ExploringPolicy(ZeroPolicy(3), RandomPolicy(SPACE, 0), 0.3, 0.0)(OBS)
    assert np.sqrt((noisy**2).sum(1).mean()) == pytest.approx(0.3, abs=0.02)
    assert (ExploringPolicy(ConstantPolicy(own), RandomPolicy(SPACE, 0, "ball"), 0.0, 0.0)(OBS) == own).all()
    far = ExploringPolicy(ConstantPolicy(3 * own), RandomPolicy(SPACE, 0), 1.0, 0.0)(OBS)
    assert SPACE.contains(far[0]) and (far[:, 1] == 1).mean() > 0.9


@pytest.mark.parametrize("actions", ["sphere", "ball", "box"])
def test_noise_has_the_length_asked_for_and_stays_in_the_set(actions) -> None:
    own = np.array([0.0, 0.6, 0.0], np.float32) if actions != "sphere" else np.array([0.0, 1.0, 0.0], np.float32)
    policy = ExploringPolicy(ConstantPolicy(own), RandomPolicy(SPACE, 3, actions), 0.2, 0.0)
    drawn = policy(OBS)
    assert drawn.dtype == np.float32 and drawn.shape == (500, 3)
    away = np.sqrt(((drawn - own) ** 2).sum(1).mean())
    assert away == pytest.approx(0.2 * (2 / 3) ** 0.5 if actions == "sphere" else 0.2, abs=0.02)
    lengths = np.linalg.norm(drawn, axis=1)
    assert actions == "box" or lengths.max() < 1 + 1e-6
    policy.reset(3)
    np.testing.assert_array_equal(policy(OBS), drawn)
    quiet = ExploringPolicy(ConstantPolicy(own), RandomPolicy(SPACE, 3, actions), 0.0, 0.0)
    np.testing.assert_array_equal(quiet(OBS), np.tile(own, (500, 1)))
    with pytest.raises(ValueError, match="noise -1 must not be negative"):
        ExploringPolicy(policy, RandomPolicy(SPACE, 3, actions), -1, 0.0)


def test_a_reset_repeats_the_draws() -> None:
    policy = RandomPolicy(SPACE, 3)
    first, second = policy(OBS), policy(OBS)
    policy.reset(3)
    assert (policy(OBS) == first).all() and (first != second).any()


def test_constant_and_zero_actions() -> None:
    assert (ConstantPolicy(np.array([0.5, -0.5]))(OBS) == [0.5, -0.5]).all()
    assert ZeroPolicy(4)(OBS).shape == (500, 4) and not ZeroPolicy(4)(OBS).any()


def test_a_constant_action_is_saved(tmp_path: Path) -> None:
    ConstantPolicy(np.array([0.5, -0.25])).save(tmp_path / "action.safetensors")
    assert ConstantPolicy.load(tmp_path / "action.safetensors").action.tolist() == [0.5, -0.25]


def test_successive_halving_finds_the_best_action_and_spends_on_the_good_ones() -> None:
    rng = np.random.default_rng(0)
    candidates = np.linspace(-1, 1, 16)[:, None]
    spent = []

    def evaluate(actions: np.ndarray) -> np.ndarray:
        spent.append(len(actions))
        rewards = 1 - (actions - 0.6) ** 2 + 0.3 * rng.standard_normal((len(actions), 20))
        rewards[:, 0] = np.nan  # a failed scenario
        return rewards

    action, table = best_fixed_action(evaluate, candidates)
    assert abs(action[0] - 0.6) < 0.15
    assert spent == [16] + [8] * 2 + [4] * 4 + [2] * 8
    assert len(table) == 16 and candidates[table[0].candidate] == pytest.approx(action)
    assert table[0].episodes == 19 * 15 and table[-1].episodes == 19
    assert table[0].mean_reward == pytest.approx(1, abs=0.1) and table[0].standard_error < 0.05


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16])
def test_the_cost_of_a_search_is_known_beforehand(count: int) -> None:
    spent = []
    best_fixed_action(lambda actions: (spent.append(len(actions)), actions)[1], np.linspace(0, 1, count)[:, None])
    assert sum(spent) == halving_evaluations(count)


def test_an_action_whose_episodes_all_failed_is_never_chosen() -> None:
    rewards = np.array([[np.nan, np.nan], [-5.0, -5.0]])
    action, table = best_fixed_action(lambda actions: rewards, np.array([[0.0], [1.0]]))
    assert action == 1 and table[-1].episodes == 0


def chain(*rows: tuple[float, float, float, float]) -> Batch:
    """Transitions of (observation, next observation, reward, done), stored as the buffer stores them."""
    obs, next_obs, reward, done = np.array(rows, dtype=np.float32).T
    return Batch(obs[:, None], np.zeros((len(rows), 1), np.float32), next_obs[:, None], reward, done)


def test_returns_to_go_by_hand() -> None:
    data = chain(
        (1, 2, 1.0, 0),  # first episode: 1 -> 2 -> 3
        (7, 8, 5.0, 0),  # second: it failed after this transition, its end was not stored
        (2, 3, 2.0, 1),
        (1, 4, 4.0, 0),  # third: begins like the first one
        (4, 5, 8.0, 1),
        (9, 1, 3.0, 0),  # the next chunk's first episode does not begin where this one was cut off
    )
    np.testing.assert_allclose(returns_to_go(data, 0.5), [2.0, np.nan, 2.0, 8.0, 8.0, np.nan])


def test_returns_to_go_are_those_of_the_environment() -> None:
    env, policy = ToyVectorEnv(num_envs=4, failure=0.05), RandomPolicy(Box(-1, 1, (2,), np.float32), 0)
    obs, buffer = env.reset(seed=0)[0], ReplayBuffer(400, 3, 2)
    running: list[list[int]] = [[] for _ in range(4)]  # the stored transitions of each row's episode
    expected: dict[int, float] = {}
    for _ in range(100):
        action = policy(obs)
        next_obs, reward, terminated, truncated, infos = env.step(action)
        rows = np.flatnonzero(valid_rows(infos, 4))
        for place, row in enumerate(rows):
            running[row].append(len(buffer) + place)
        final = final_observations(next_obs, infos)
        buffer.add(obs[rows], action[rows], final[rows], reward[rows], terminated[rows])
        for row in np.flatnonzero(terminated | truncated):
            total = 0.0
            for index in reversed(running[row]) if terminated[row] else ():
                total = expected[index] = float(buffer.data.reward[index]) + 0.9 * total
            running[row] = []
        obs = next_obs
    found = returns_to_go(buffer.data, 0.9)
    assert set(np.flatnonzero(np.isfinite(found))) == set(expected) and 100 < len(expected) < len(buffer)
    np.testing.assert_allclose(found[list(expected)], list(expected.values()), rtol=1e-5)


def test_the_best_of_n_is_better_than_what_it_was_fitted_on() -> None:
    buffer = toy_buffer(3000)
    policy, explained = fit_best_of_n(buffer, 64, 0.9, 0)
    env, rewards = ToyVectorEnv(num_envs=64), []
    obs = env.reset(seed=99)[0]
    for _ in range(10):
        actions = policy(obs)
        assert all((policy.actions == action).all(1).any() for action in actions), "one of the N"
        obs, reward, *_ = env.step(actions)
        rewards.append(reward.mean())
    assert np.mean(rewards) > buffer.data.reward.mean() + 0.3
    assert 0.2 < explained < 1
    worst = policy.actions[policy.values(obs).argmin(1)]
    assert env.step(worst)[1].mean() < buffer.data.reward.mean()


def test_a_best_of_n_policy_is_saved_and_hangs_on_the_state_alone(tmp_path: Path) -> None:
    policy, _ = fit_best_of_n(toy_buffer(200), 8, 0.9, 3)
    again, _ = fit_best_of_n(toy_buffer(200), 8, 0.9, 3)
    policy.save(tmp_path / "p.safetensors")
    loaded = BestOfNPolicy.load(tmp_path / "p.safetensors")
    obs = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)
    for other in (again, loaded):
        assert (other(obs) == policy(obs)).all()
    np.testing.assert_allclose(policy.values(obs)[2:3], policy.values(obs[2:3]))
    assert len(policy.actions) == len(np.unique(policy.actions, axis=0)) == 8


def test_bad_input_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="100 actions to choose from, but the buffer has 80"):
        fit_best_of_n(toy_buffer(80), 100, 0.9, 0)
    with pytest.raises(ValueError, match="transitions with a whole episode after them, expected at least 20"):
        fit_best_of_n(toy_buffer(10), 8, 0.9, 0)
    with pytest.raises(ValueError, match=r"observation has shape \(2, 4\), this policy takes \(B, 3\)"):
        fit_best_of_n(toy_buffer(100), 8, 0.9, 0)[0](np.zeros((2, 4)))
    with pytest.raises(ValueError, match="candidates have shape"):
        best_fixed_action(lambda actions: actions, np.zeros(3))
    with pytest.raises(ValueError, match=r"rewards of shape \(2,\), expected \(2, episodes\)"):
        best_fixed_action(lambda actions: np.zeros(2), np.zeros((2, 1)))
    with pytest.raises(RuntimeError, match="every episode of every candidate failed"):
        best_fixed_action(lambda actions: np.full((2, 3), np.nan), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="expected a bounded Box"):
        RandomPolicy(Box(-np.inf, np.inf, (2,)), 0)
    with pytest.raises(ValueError, match="does not contain the unit sphere"):
        RandomPolicy(Box(-0.5, 0.5, (2,)), 0, "sphere")
    with pytest.raises(ValueError, match=r"random_share 1.5 must be in \[0, 1\]"):
        ExploringPolicy(ZeroPolicy(3), RandomPolicy(SPACE, 0), 0.1, 1.5)
    with pytest.raises(ValueError, match="one axis and finite"):
        ConstantPolicy(np.array([np.nan]))
