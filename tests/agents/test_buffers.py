"""Collection in batch: the right transitions, no failed row among them, and exact continuation."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from agents.baselines import RandomPolicy, ZeroPolicy
from agents.buffers import EpisodeMeter, ReplayBuffer, collect, final_observations, valid_rows
from tests.agents.conftest import POISON, Killed, ToyVectorEnv, killed_after, toy_buffer


def test_valid_rows_reads_both_places_and_their_masks() -> None:
    error = np.array(["down", None, "stale", None], dtype=object)
    mask = np.array([True, True, False, False])
    expected = [False, True, True, True]
    assert valid_rows({}, 4).all()
    assert valid_rows({"error": error, "_error": mask}, 4).tolist() == expected
    assert valid_rows({"final_info": {"error": error, "_error": mask}}, 4).tolist() == expected
    assert valid_rows({"error": error}, 4).tolist() == [False, True, False, True]


def test_final_observations_takes_the_last_state_of_rows_that_were_reset() -> None:
    next_obs = np.zeros((3, 2), dtype=np.float32)
    rows = np.array([None, np.ones(2, dtype=np.float32), None], dtype=object)
    result = final_observations(next_obs, {"final_obs": rows, "_final_obs": np.array([False, True, False])})
    assert result.tolist() == [[0, 0], [1, 1], [0, 0]]
    assert not next_obs.any()


def test_gymnasiums_own_vector_environment_is_read_right() -> None:
    env = gym.make_vec(
        "Pendulum-v1", 3, "sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}, max_episode_steps=5
    )
    env.reset(seed=0)
    for _ in range(5):
        next_obs, _, _, truncated, infos = env.step(np.zeros((3, 1), dtype=np.float32))
    assert truncated.all() and valid_rows(infos, 3).all()
    assert not np.allclose(final_observations(next_obs, infos), next_obs)


def test_the_meter_sums_each_episode() -> None:
    meter = EpisodeMeter(2)
    meter.step(np.array([1.0, 2.0]), np.array([False, True]))
    returns, lengths = meter.step(np.array([3.0, 4.0]), np.array([True, False]))
    assert returns.tolist() == [4, 4] and lengths.tolist() == [2, 1]
    assert meter.returns.tolist() == [0, 4] and meter.lengths.tolist() == [0, 1]


def test_collected_transitions_are_those_of_the_environment() -> None:
    data = toy_buffer(600).data
    expected = 1 - ((data.action - data.obs[:, :2]) ** 2).mean(1)
    np.testing.assert_allclose(data.reward, expected, atol=1e-5)
    assert (data.next_obs[:, 2] == data.obs[:, 2] + 1).all()  # never the first state of the next episode
    assert len(np.unique(data.obs[:, :2], axis=0)) == 600  # chunks (of 16 x 32) do not repeat each other
    assert 0.1 < data.done.mean() < 0.3
    assert (data.done[data.next_obs[:, 2] == 4] == 0).any()  # a time limit is not a terminal state


@pytest.mark.parametrize("error_in", ["final_info", "beside"])
def test_no_failed_row_is_stored(error_in: str) -> None:
    env = ToyVectorEnv(num_envs=8, failure=0.3, error_in=error_in)
    buffer = collect(env, RandomPolicy(env.single_action_space, 1), 500, 1, progress=False)
    stored = {action.tobytes() for action in buffer.data.action}
    assert len(buffer) == 500 and len(env.failed_actions) > 50
    assert not any(action.tobytes() in stored for action in env.failed_actions)
    assert not (buffer.data.next_obs == POISON).any()
    assert buffer.statistics["failed_rows"] == len(env.failed_actions)
    mean_return = buffer.statistics["return_sum"] / buffer.statistics["episodes"]
    assert mean_return == pytest.approx(2 * buffer.data.reward.mean(), rel=0.3)  # about two valid turns an episode


def test_a_chunk_of_failures_alone_ends_the_collection() -> None:
    with pytest.raises(RuntimeError, match=r"every row failed.*the judge did not answer"):
        collect(ToyVectorEnv(failure=1.0), ZeroPolicy(2), 10, 0, progress=False)


@pytest.mark.parametrize("steps", [3, 17, 29])
def test_a_killed_collection_goes_on_to_the_unbroken_buffer(tmp_path: Path, steps: int) -> None:
    def run(env: ToyVectorEnv, path: Path | None) -> ReplayBuffer:
        policy = RandomPolicy(env.single_action_space, 5)
        return collect(env, policy, 150, 5, path=path, steps_per_chunk=8, progress=False)

    unbroken = run(ToyVectorEnv(failure=0.1), None)
    path = tmp_path / "buffer.safetensors"
    with pytest.raises(Killed):
        run(killed_after(ToyVectorEnv(failure=0.1), steps), path)
    resumed = run(ToyVectorEnv(failure=0.1), path)
    assert resumed.fingerprint() == unbroken.fingerprint()
    assert resumed.statistics == unbroken.statistics
    env = ToyVectorEnv()
    run(env, path)
    assert env.steps == 0  # a finished buffer is only loaded
    with pytest.raises(ValueError, match=r"was collected with .*'seed': 5.*'seed': 6"):
        collect(env, ZeroPolicy(2), 150, 6, path=path, steps_per_chunk=8)


def test_save_and_load(tmp_path: Path) -> None:
    buffer = toy_buffer(50)
    buffer.save(tmp_path / "b")
    loaded = ReplayBuffer.load(tmp_path / "b")
    assert loaded.fingerprint() == buffer.fingerprint() and loaded.statistics == buffer.statistics
    first, second = (b.sample(8, np.random.default_rng(0)) for b in (buffer, loaded))
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


def test_state_statistics() -> None:
    buffer = toy_buffer(400)
    mean, std = buffer.state_statistics()
    normalised = (buffer.data.obs - mean) / std
    np.testing.assert_allclose(normalised.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std(0), 1, atol=1e-2)


def test_bad_input_is_refused_by_name() -> None:
    buffer = ReplayBuffer(3, 4, 2)
    good = {"obs": np.zeros((2, 4)), "action": np.zeros((2, 2)), "next_obs": np.zeros((2, 4))}
    good |= {"reward": np.zeros(2), "done": np.zeros(2)}
    with pytest.raises(ValueError, match=r"action has shape \(2, 3\), this buffer takes \(2, 2\)"):
        buffer.add(**good | {"action": np.zeros((2, 3))})
    with pytest.raises(ValueError, match="reward holds NaN"):
        buffer.add(**good | {"reward": np.array([0, np.nan])})
    with pytest.raises(ValueError, match="the buffer is empty"):
        buffer.sample(1, np.random.default_rng(0))
    buffer.add(**good)
    with pytest.raises(ValueError, match="2 transitions do not fit: 2 of 3"):
        buffer.add(**good)
    with pytest.raises(ValueError, match=r"autoreset mode .*NEXT_STEP"):
        collect(gym.make_vec("Pendulum-v1", 2, "sync"), ZeroPolicy(1), 10, 0)


def test_joined_buffers_hold_the_transitions_of_all_in_order() -> None:
    parts = [toy_buffer(40, seed=seed, failure=0.1) for seed in (0, 1)]
    whole = ReplayBuffer.joined(parts)
    assert len(whole) == whole.capacity == 80
    for own, *others in zip(whole.data, *(part.data for part in parts), strict=True):
        np.testing.assert_array_equal(own, np.concatenate(others))
    for name, value in whole.statistics.items():
        assert value == sum(part.statistics[name] for part in parts) != 0
