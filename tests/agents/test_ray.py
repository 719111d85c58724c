"""Rollouts by Ray actors on a local cluster of three nodes, with a worker and a node that die in the middle."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import VectorizeMode
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.baselines import RandomPolicy
from agents.buffers import collect
from agents.ray_vector_env import RayVectorEnv, make_vec
from agents.sb3 import make_sb3, train_sb3
from agents.td3_bc import TD3BC, TD3BCConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ray = pytest.importorskip("ray", reason="the package ray is not installed: pip install 'dialog-envs[ray]'")
ARRAYS = ("observations", "actions", "rewards")
TOY = "tests.agents.ray_toy:RayToy-v0"
SOCIAL = "dialog_envs:DialogEnvs/DATRedTeam-v0"
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster() -> Iterator:
    """Three nodes with room for one worker each, on the loopback interface; this process is their driver."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_AUTH_MODE"] = "disabled"  # one process group, no other machine
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    for _ in range(2):
        cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def toy(cluster) -> Iterator[RayVectorEnv]:
    env = RayVectorEnv(TOY, workers=2, rows=3)
    yield env
    env.close()


class Killer:
    """A random policy that kills a worker before its n-th step."""

    def __init__(self, env: RayVectorEnv, at: int) -> None:
        self.env, self.at, self.steps = env, at, 0
        self.random = RandomPolicy(env.single_action_space, 0)

    def reset(self, seed: int) -> None:
        self.random.reset(seed)

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        self.steps += 1
        if self.steps == self.at:
            ray.kill(self.env.workers[1])
            wait_for_a_death(self.env.workers[1:])
        return self.random(observations)


def test_rows_of_workers_are_those_of_one_local_environment(cluster, model_folder):
    arguments = {"lm": str(model_folder()), "up_map": "pca", "action_dim": 4, "max_new_tokens": 6}
    local = gym.make_vec(SOCIAL, num_envs=4, **arguments)
    spread = RayVectorEnv(SOCIAL, workers=2, rows=2, **arguments)
    assert spread.action_set == local.unwrapped.action_set == "ball"
    assert spread.observation_space == local.observation_space
    seen, told = spread.reset(seed=3), local.reset(seed=3)
    rng, state = np.random.default_rng(0), None
    for step in range(5):
        np.testing.assert_allclose(seen[0], told[0], atol=1e-4)
        assert sorted(seen[-1]) == sorted(told[-1]) and (seen[-1]["scenario"] == told[-1]["scenario"]).all()
        if step == 2:
            state = spread.get_state()
        actions = rng.uniform(-1, 1, (4, 4)).astype(np.float32)
        seen, told = spread.step(actions), local.step(actions)
        for mine, theirs in zip(seen[1:4], told[1:4], strict=True):
            np.testing.assert_allclose(mine, theirs)
        final, own = seen[4].get("final_info", seen[4]), told[4].get("final_info", told[4])
        assert final["agent_text"].tolist() == own["agent_text"].tolist()
        if step == 2:
            after = seen
    spread.set_state(state)
    rng = np.random.default_rng(0)
    again = spread.step([rng.uniform(-1, 1, (4, 4)).astype(np.float32) for _ in range(3)][-1])
    np.testing.assert_array_equal(again[0], after[0])
    spread.close()


def test_rows_are_shared_alike_or_stay_here():
    with pytest.raises(ValueError, match="5 rows cannot be shared alike by 2 workers"):
        make_vec(TOY, rows=5, workers=2)
    assert make_vec(TOY, rows=5).unwrapped.num_envs == 5


def test_rllib_trains_on_a_registered_id(cluster, model_folder):
    from ray.rllib.algorithms.ppo import PPOConfig

    arguments = {"lm": str(model_folder()), "up_map": "pca", "action_dim": 4, "max_new_tokens": 6}
    config = (
        PPOConfig()
        .environment(SOCIAL, env_config={**arguments, "autoreset_mode": "next_step"})
        .env_runners(
            num_env_runners=1,
            num_envs_per_env_runner=4,
            gym_env_vectorize_mode=VectorizeMode.VECTOR_ENTRY_POINT,
            rollout_fragment_length=8,
        )
        .training(train_batch_size_per_learner=32, minibatch_size=16, num_epochs=1)
    )
    algorithm = config.build_algo()
    before = weights(algorithm)
    told = algorithm.train()["env_runners"]
    assert told["num_env_steps_sampled"] == 32 and told["episode_len_mean"] == 3  # the game's three rounds
    after = weights(algorithm)
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    algorithm.stop()


def weights(algorithm) -> dict[str, np.ndarray]:
    return algorithm.get_weights()["default_policy"]


def test_offline_training_goes_on_when_a_worker_dies(toy):
    toy.counts = dict.fromkeys(toy.counts, 0)
    buffer = collect(toy, Killer(toy, at=20), 200, seed=0, progress=False)
    assert toy.counts["restarts"] == 1 and toy.counts["lost_transitions"] == 3
    assert buffer.statistics["failed_rows"] == 3, "what was lost is counted, and is not data"
    assert len(buffer) == 200 <= toy.counts["transitions"] < 200 + toy.num_envs
    data = buffer.data
    assert len(np.unique(np.concatenate([data.obs, data.action], 1), axis=0)) == 200, "a transition is there twice"
    np.testing.assert_allclose(data.reward, rewards_of(data.obs, data.action), atol=1e-5)
    learner = TD3BC(buffer.obs_dim, buffer.action_dim, TD3BCConfig(hidden=(8,)))
    learner.train(buffer, 3, progress=False)
    assert learner.steps == 3


def test_online_training_goes_on_when_a_node_is_lost(cluster, toy, tmp_path):
    """Found out between two steps, so that no action is paired with a dialogue that is gone."""
    toy.counts = dict.fromkeys(toy.counts, 0)
    model = make_sb3("SAC", toy, seed=0, learning_starts=12, policy_kwargs={"net_arch": [8]})
    train_sb3(model, 60, 60, tmp_path, progress=False)
    homes = [ray._private.state.actors(worker._actor_id.hex())["Address"]["NodeID"] for worker in toy.workers]
    lost = next(node for node in cluster.worker_nodes if node.node_id in homes)
    cluster.remove_node(lost, allow_graceful=False)
    wait_for_a_death(toy.workers)
    assert toy.scalars()["ray/restarts"] == 1
    train_sb3(model, 120, 60, tmp_path, progress=False)
    assert toy.counts == {"transitions": 117, "lost_transitions": 3, "restarts": 1}
    assert model.num_timesteps == 120 and model.replay_buffer.size() == 117
    obs, action, reward = (array[:117, 0] for array in (getattr(model.replay_buffer, name) for name in ARRAYS))
    np.testing.assert_allclose(reward, rewards_of(obs, action), atol=1e-4)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.value for event in events.Scalars("ray/lost_transitions")] == [0, 3]


def test_a_worker_that_is_found_dead_at_a_reset_has_lost_nothing(toy):
    toy.counts = dict.fromkeys(toy.counts, 0)
    toy.reset(seed=0)
    ray.kill(toy.workers[0])
    wait_for_a_death(toy.workers[:1])
    shown, _ = toy.reset(seed=1)
    actions = np.zeros(toy.action_space.shape, toy.action_space.dtype)
    _, rewards, _, _, infos = toy.step(actions)
    np.testing.assert_allclose(rewards, rewards_of(shown, actions), atol=1e-5)
    assert "error" not in infos.get("final_info", {})
    assert toy.counts == {"transitions": 6, "lost_transitions": 0, "restarts": 1}


def wait_for_a_death(workers) -> None:
    """Return once one of them does not answer: a worker outlives its end by a moment."""
    deadline = time.monotonic() + 60
    while all(lives(worker) for worker in workers):
        assert time.monotonic() < deadline, "it should be gone, and answers"


def lives(worker) -> bool:
    try:
        ray.get(worker.describe.remote())
    except ray.exceptions.RayActorError:
        return False
    return True


def rewards_of(obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Return what the toy gives for these actions in these states: a transition of two dialogues would show."""
    return 1 - ((action - obs[:, :-1]) ** 2).mean(1)


def test_what_cannot_run_is_refused_by_name(toy, cluster):
    with pytest.raises(ValueError, match="0 workers"):
        RayVectorEnv(TOY, workers=0, rows=2)
    with pytest.raises(ValueError, match=r"actions have shape \(1, 2\)"):
        toy.step(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="reset_mask"):
        toy.reset(options={"reset_mask": np.ones(6, bool)})
    with pytest.raises(RuntimeError, match=r"worker 0 did not start within 1 s; the cluster has left"):
        RayVectorEnv(TOY, workers=1, rows=2, threads=64, patience=1)
