"""Stable-Baselines3 on a batched environment: its own interface, no failed row in any buffer, exact continuation."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.checkpoint import load_tree
from agents.sb3 import CHECKPOINT, SB3VecEnv, load_sb3, make_sb3, restore_sb3, save_sb3, train_sb3
from agents.sb3_buffers import ValidRolloutBuffer
from tests.agents.conftest import POISON, Killed, ToyVectorEnv, killed_after, same_tensors

SMALL: dict[str, dict[str, Any]] = {
    "TD3": {"learning_starts": 16, "batch_size": 16, "gradient_steps": 2, "policy_kwargs": {"net_arch": [16]}},
    "SAC": {"learning_starts": 16, "batch_size": 16, "gradient_steps": 2, "policy_kwargs": {"net_arch": [16]}},
    "PPO": {"n_steps": 8, "batch_size": 16, "n_epochs": 2, "policy_kwargs": {"net_arch": [16]}},
}
KILLED_PROGRAM = """
import sys, torch
from agents.sb3 import train_sb3
from tests.agents.conftest import ToyVectorEnv
from tests.agents.test_sb3 import small
torch.set_num_threads(1)
train_sb3(small("SAC", ToyVectorEnv()), 10**9, 32, sys.argv[1], progress=False)
"""
algorithms = pytest.mark.parametrize("algorithm", list(SMALL))


def small(algorithm: str, env: ToyVectorEnv | SB3VecEnv, **overrides: Any) -> BaseAlgorithm:
    return make_sb3(algorithm, env, 3, **SMALL[algorithm] | overrides)


def test_the_vec_env_speaks_stable_baselines() -> None:
    toy = ToyVectorEnv(num_envs=4)
    venv = SB3VecEnv(toy)
    assert venv.seed(5) == [5, 6, 7, 8]
    obs = venv.reset()
    np.testing.assert_array_equal(obs, ToyVectorEnv(num_envs=4).reset(seed=5)[0])
    returns, ended = np.zeros(4), 0
    for _ in range(30):
        shown = obs.copy()
        obs, rewards, dones, infos = venv.step(np.zeros((4, 2), dtype=np.float32))
        np.testing.assert_allclose(rewards, 1 - (shown[:, :2] ** 2).mean(1), atol=1e-5)
        returns += rewards
        for row in np.flatnonzero(dones):
            info, ended = infos[row], ended + 1
            assert info["terminal_observation"][2] == shown[row, 2] + 1 and obs[row, 2] == 0
            assert info["TimeLimit.truncated"] in (True, False)
            assert info["episode"]["r"] == pytest.approx(returns[row], abs=1e-4)
            assert info["episode"]["l"] == shown[row, 2] + 1 and info["episode"]["t"] >= 0
            returns[row] = 0
        assert all(not infos[row] for row in np.flatnonzero(~dones))
    assert ended > 10


def test_a_time_limit_is_told_from_a_terminal_state() -> None:
    venv = SB3VecEnv(ToyVectorEnv(num_envs=32, max_turns=2))
    venv.seed(0)
    venv.reset()
    seen = set()
    for _ in range(8):
        *_, dones, infos = venv.step(np.zeros((32, 2), dtype=np.float32))
        for row in np.flatnonzero(dones):
            seen.add((infos[row]["episode"]["l"], infos[row]["TimeLimit.truncated"]))
    assert {(1, False), (2, True)} <= seen and (1, True) not in seen


@pytest.mark.parametrize("error_in", ["final_info", "beside"])
def test_a_failed_row_has_an_error_and_no_episode(error_in: str) -> None:
    venv = SB3VecEnv(ToyVectorEnv(failure=1.0, error_in=error_in))
    venv.reset()
    _, rewards, dones, infos = venv.step(np.zeros((4, 2), dtype=np.float32))
    assert dones.all() and not rewards.any()
    assert all(info["error"] == "the judge did not answer" and "episode" not in info for info in infos)


def test_attributes_and_methods_are_the_batchs() -> None:
    toy = ToyVectorEnv()
    venv = SB3VecEnv(gym.wrappers.vector.RecordEpisodeStatistics(toy))
    assert venv.get_attr("dim") == [2] * 4 and venv.get_attr("dim", [0, 2]) == [2, 2]
    venv.set_attr("max_turns", 7)
    assert toy.max_turns == 7 and not venv.has_attr("absent")
    with pytest.raises(ValueError, match="cannot be set for rows"):
        venv.set_attr("max_turns", 5, indices=[1])
    venv.set_options({"split": "train"})
    venv.reset()
    assert venv.reset_infos[3] == {"options": "{'split': 'train'}"}
    assert venv.env_method("get_state", indices=1)[0]["turn"] == [0] * 4
    assert venv.env_is_wrapped(gym.wrappers.vector.RecordEpisodeStatistics) == [True] * 4
    assert venv.env_is_wrapped(gym.wrappers.vector.NormalizeReward) == [False] * 4
    assert venv.env_is_wrapped(Monitor) == [True] * 4
    with pytest.raises(ValueError, match="autoreset mode"):
        SB3VecEnv(gym.make_vec("Pendulum-v1", 2, "sync"))


def test_it_renders_and_evaluates_gymnasiums_own_environment() -> None:
    keywords = {"autoreset_mode": AutoresetMode.SAME_STEP}
    env = gym.make_vec("Pendulum-v1", 2, "sync", vector_kwargs=keywords, max_episode_steps=10)
    venv = SB3VecEnv(env)
    model = make_sb3("TD3", venv, 0, learning_starts=8, gradient_steps=1, policy_kwargs={"net_arch": [8]})
    model.learn(30)
    mean, _ = evaluate_policy(model, venv, n_eval_episodes=4)
    assert mean < 0 and len(model.ep_info_buffer) == 2
    venv.close()


@pytest.mark.parametrize("algorithm", ["TD3", "SAC"])
def test_off_policy_learners_store_valid_rows_only(algorithm: str) -> None:
    toy = ToyVectorEnv(num_envs=4, failure=0.3)
    model = small(algorithm, toy)
    model.learn(200)
    buffer = model.replay_buffer
    stored = {action.tobytes() for action in buffer.actions[: buffer.size(), 0]}
    assert len(toy.failed_actions) > 30
    assert buffer.size() == 200 - len(toy.failed_actions)
    assert not any(action.tobytes() in stored for action in toy.failed_actions)
    assert not (buffer.next_observations[: buffer.size()] == POISON).any()
    expected = 1 - ((buffer.actions - buffer.observations[..., :2]) ** 2).mean(-1)
    np.testing.assert_allclose(buffer.rewards[: buffer.size()], expected[: buffer.size()], atol=1e-5)


def test_the_replay_ring_wraps_row_by_row() -> None:
    toy = ToyVectorEnv(num_envs=4, failure=0.3)
    model = small("TD3", toy, buffer_size=30)
    model.learn(100)
    assert model.replay_buffer.full and model.replay_buffer.size() == 30
    expected = (100 - len(toy.failed_actions)) % 30
    assert model.replay_buffer.pos == expected


def test_ppo_trains_on_valid_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[torch.Tensor] = []
    get = ValidRolloutBuffer.get

    def watched(self: ValidRolloutBuffer, batch_size: int | None = None) -> Any:
        for samples in get(self, batch_size):
            trained.append(samples.actions)
            yield samples

    monkeypatch.setattr(ValidRolloutBuffer, "get", watched)
    toy = ToyVectorEnv(num_envs=4, failure=0.3)
    small("PPO", toy, n_steps=24, n_epochs=1).learn(96)
    actions = torch.cat(trained).clamp(-1, 1).numpy()
    seen = {action.tobytes() for action in actions}
    failed = [action for action in toy.failed_actions if (np.abs(action) < 1).any()]  # clipped corners are not unique
    assert len(failed) > 10 and len(actions) == 96 - len(toy.failed_actions)
    assert not any(action.tobytes() in seen for action in failed)


def test_the_advantage_before_a_failure_bootstraps_from_the_shared_state() -> None:
    space = gym.spaces.Box(-1, 1, (1,))
    buffer = ValidRolloutBuffer(3, space, space, "cpu", gae_lambda=0.9, gamma=0.5, n_envs=2)
    values, rewards = [[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]], [[1.0, 1.0], [7.0, 7.0], [3.0, 3.0]]
    starts = [[1, 1], [0, 0], [1, 1]]  # both rows end with step 1; the first one because it failed there
    for step in range(3):
        buffer.mark(np.array([step != 1, True]))
        row, value = np.zeros((2, 1)), torch.tensor(values[step])
        buffer.add(row, row, np.array(rewards[step]), np.array(starts[step]), value, torch.zeros(2))
    buffer.compute_returns_and_advantage(torch.tensor([6.0, 6.0]), np.array([False, False]))
    last = 3 + 0.5 * 6 - 4
    failed = [1 + 0.5 * 2 - 1, 0.0, last]
    ended = 7 - 2
    np.testing.assert_allclose(buffer.advantages[:, 0], failed)
    np.testing.assert_allclose(buffer.advantages[:, 1], [1 + 0.5 * 2 - 1 + 0.5 * 0.9 * ended, ended, last])
    assert sum(len(samples.actions) for samples in buffer.get(2)) == 5


@algorithms
def test_failures_alone_are_refused_by_name(algorithm: str) -> None:
    with pytest.raises(RuntimeError, match="failed"):
        small(algorithm, ToyVectorEnv(failure=1.0)).learn(64)


@pytest.mark.parametrize("steps", [20, 40])
@algorithms
def test_a_killed_training_ends_with_the_unbroken_weights(algorithm: str, steps: int, tmp_path: Path) -> None:
    # 80 or 160 of 192: after the first checkpoint (64), in the random warm-up, or after the second (128), past it
    late = {} if algorithm == "PPO" else {"learning_starts": 100, "gradient_steps": 3}

    def run(env: ToyVectorEnv, folder: str) -> BaseAlgorithm:
        return train_sb3(small(algorithm, env, **late), 192, 64, tmp_path / folder, progress=False)

    unbroken = run(ToyVectorEnv(failure=0.1), "unbroken")
    with pytest.raises(Killed):
        run(killed_after(ToyVectorEnv(failure=0.1), steps), "broken")
    resumed = run(ToyVectorEnv(failure=0.1), "broken")
    assert resumed.num_timesteps == unbroken.num_timesteps == 192
    assert same_tensors(resumed.policy.state_dict(), unbroken.policy.state_dict())
    assert [e["r"] for e in resumed.ep_info_buffer] == [e["r"] for e in unbroken.ep_info_buffer]
    curves = [EventAccumulator(str(tmp_path / folder)).Reload() for folder in ("unbroken", "broken")]
    tags = {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps"}
    assert tags <= set(curves[0].Tags()["scalars"]) and any(t.startswith("train/") for t in curves[0].Tags()["scalars"])
    first, second = ({e.step: e.value for e in c.Scalars("rollout/ep_rew_mean")} for c in curves)
    assert first == second


def test_schedules_run_over_the_whole_training(tmp_path: Path) -> None:
    rates: dict[int, float] = {}

    def train(stop_at: int | None = None) -> BaseAlgorithm:
        def note(model: BaseAlgorithm) -> dict[str, float]:
            if model.num_timesteps == stop_at:
                raise Killed
            rates[model.num_timesteps] = model.exploration_rate
            return {}

        keywords = {"autoreset_mode": AutoresetMode.SAME_STEP}
        env = gym.make_vec("CartPole-v1", 4, "sync", vector_kwargs=keywords)
        falling = {"exploration_fraction": 0.8, "exploration_final_eps": 0.2, "learning_starts": 400, "train_freq": 5}
        model = make_sb3("DQN", env, 0, **falling, policy_kwargs={"net_arch": [8]})
        return train_sb3(model, 400, 100, tmp_path, evaluate=note, progress=False)

    with pytest.raises(Killed):
        train(stop_at=300)
    model = train()
    assert rates == pytest.approx({100: 0.75, 200: 0.5, 300: 0.25, 400: 0.2}, abs=1e-6)
    assert "_update_current_progress_remaining" not in vars(model), "the model is as it was"


def test_kill_9_in_the_middle_and_go_on(tmp_path: Path) -> None:
    path = tmp_path / "broken" / CHECKPOINT
    process = subprocess.Popen([sys.executable, "-c", KILLED_PROGRAM, str(path.parent)], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 50
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and path.exists()

    steps = load_tree(path)["counters"]["num_timesteps"] + 64
    resumed = train_sb3(small("SAC", ToyVectorEnv()), steps, 32, path.parent, progress=False)
    unbroken = train_sb3(small("SAC", ToyVectorEnv()), steps, 32, tmp_path / "unbroken", progress=False)
    assert resumed.num_timesteps == steps >= 96
    assert same_tensors(resumed.policy.state_dict(), unbroken.policy.state_dict())


@algorithms
def test_a_loaded_model_is_the_saved_one(algorithm: str, tmp_path: Path) -> None:
    model = small(algorithm, ToyVectorEnv())
    train_sb3(model, 64, 64, tmp_path, progress=False, evaluate=lambda _: {"rollout/heldout": 1.0})
    model.learn(64, reset_num_timesteps=False)
    loaded = load_sb3(tmp_path, ToyVectorEnv())
    assert loaded.num_timesteps == 64
    loaded.learn(64, reset_num_timesteps=False)
    assert same_tensors(loaded.policy.state_dict(), model.policy.state_dict())
    names = {file.name for file in tmp_path.iterdir() if "tfevents" not in file.name}
    assert names == {"sb3.safetensors"}


def test_an_environment_without_state_is_reset_on_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ToyVectorEnv, "get_state")
    monkeypatch.delattr(ToyVectorEnv, "set_state")
    train_sb3(small("SAC", ToyVectorEnv()), 64, 64, tmp_path, progress=False)
    model = train_sb3(small("SAC", ToyVectorEnv()), 128, 64, tmp_path, progress=False)
    assert model.num_timesteps == 128 and model.replay_buffer.size() == 128


def test_bad_input_is_refused_by_name(tmp_path: Path) -> None:
    toy = ToyVectorEnv()
    with pytest.raises(ValueError, match="algorithm is 'A2C', expected one of TD3, SAC, DQN, PPO"):
        make_sb3("A2C", toy, 0)
    with pytest.raises(TypeError, match="activation_fn is a type"):
        make_sb3("TD3", toy, 0, policy_kwargs={"activation_fn": torch.nn.Tanh})
    with pytest.raises(ValueError, match="optimize_memory_usage"):
        make_sb3("TD3", toy, 0, optimize_memory_usage=True)
    save_sb3(small("TD3", toy), tmp_path)
    with pytest.raises(ValueError, match="has recipe"):
        restore_sb3(small("SAC", toy), tmp_path)
    with pytest.raises(ValueError, match="has spaces"):
        load_sb3(tmp_path, ToyVectorEnv(dim=3))
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_sb3(tmp_path / "absent", toy)
