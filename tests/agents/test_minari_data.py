"""Episodes go to Minari and back: the same transitions bit for bit, and dialogues that can be played again."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

import dialog_envs  # noqa: F401
from agents.baselines import RandomPolicy
from agents.buffers import ReplayBuffer, collect
from agents.minari_data import Recorder, load, replay_buffer, write
from agents.ray_vector_env import RayVectorEnv
from agents.sb3 import make_sb3
from agents.td3_bc import TD3BC, TD3BCConfig
from dialog_envs.judges import SocialJudge
from dialog_envs.retry import Failure

ENV, SET = "DialogEnvs/DATSocial-v0", "dialog-envs/DATSocial/test-v0"


@pytest.fixture
def arguments(model_folder) -> dict:
    small = {"lm": str(model_folder()), "up_map": "pca", "action_dim": 4, "max_new_tokens": 6, "max_turns": 2}
    return small | {"scenarios": "comfort/train", "dense_reward": True}


def recorded(arguments: dict, transitions: int = 30) -> tuple[Recorder, ReplayBuffer]:
    recorder = Recorder(gym.make_vec(ENV, num_envs=4, **arguments))
    policy = RandomPolicy(recorder.single_action_space, 0)
    return recorder, collect(recorder, policy, transitions, 0, steps_per_chunk=5, progress=False)


def test_td3_bc_learns_the_same_from_minari_as_from_its_own_buffer(arguments, tmp_path):
    recorder, own = recorded(arguments)
    assert len(own) == 30, "the last step's fourth row, and the rows of the last chunk, are cut"
    write(recorder, SET, gym.make(ENV, **arguments), "random", tmp_path)
    back = replay_buffer(load(SET, tmp_path), 30)
    assert back.fingerprint() == own.fingerprint()
    weights = []
    for buffer in (own, back):
        learner = TD3BC(own.obs_dim, own.action_dim, TD3BCConfig(hidden=(16,), batch_size=8))
        learner.train(buffer, 20, progress=False)
        weights.append(learner.actor.state_dict() | learner.critic.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_spec_scenario_tokens_and_embeddings_are_kept(arguments, tmp_path):
    env = gym.make(ENV, **arguments)
    recorder, _ = recorded(arguments)
    write(recorder, SET, env, "random", tmp_path, references=(1.0, 2.0))
    dataset = load(SET, tmp_path)
    assert dataset.env_spec.kwargs == env.spec.kwargs
    assert (dataset.observation_space, dataset.action_space) == (env.observation_space, env.action_space)
    assert dataset.storage.metadata["ref_max_score"] == 2.0
    episode = next(e for e in dataset.iterate_episodes() if len(e) == 2)
    said = [text.decode() for text in episode.infos["agent_text"]]
    assert said[0] == "" and episode.observations.shape == (3, env.observation_space.shape[0])
    tokenizer = recorder.core.observer.lm.tokenizer
    for text, ids in zip(said, episode.infos["agent_tokens"], strict=True):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == ids[ids >= 0].tolist()
    assert set(episode.infos["score"]) >= {"goal", "secret"} and np.isnan(episode.infos["score"]["goal"][0])


def test_an_episode_can_be_played_again(arguments, tmp_path):
    recorder, _ = recorded(arguments)
    dataset = write(recorder, SET, gym.make(ENV, **arguments), "random", tmp_path)
    metadata = list(dataset.storage.get_episode_metadata(range(dataset.total_episodes)))
    seeded = [i for i, one in enumerate(metadata) if one.get("seed") is not None and one["total_steps"] == 2]
    assert seeded
    env = dataset.recover_environment()
    episode = next(iter(dataset.storage.get_episodes(seeded[:1])))
    observation, _ = env.reset(seed=metadata[seeded[0]]["seed"], options=metadata[seeded[0]]["options"])
    for turn, action in enumerate(episode["actions"]):
        np.testing.assert_allclose(observation, episode["observations"][turn], atol=1e-4)
        observation, reward, *_, info = env.step(action)
        assert info["agent_text"] == episode["infos"]["agent_text"][turn + 1].decode()
        assert reward == pytest.approx(episode["rewards"][turn])


def test_a_failed_turn_is_no_data(arguments, tmp_path, monkeypatch):
    judge, calls = SocialJudge.judge, []

    def failing(self, rows):
        calls.append(len(rows))
        return [Failure("out", final=True) if len(calls) % 3 == 0 else one for one in judge(self, rows)]

    monkeypatch.setattr(SocialJudge, "judge", failing)
    recorder, own = recorded(arguments)
    assert recorder.failed_rows == own.statistics["failed_rows"] > 0
    dataset = write(recorder, SET, gym.make(ENV, **arguments), "random", tmp_path)
    back = replay_buffer(dataset, 30)
    assert back.fingerprint() == own.fingerprint() and back.statistics["failed_rows"] == recorder.failed_rows


def test_any_learner_is_recorded(arguments):
    recorder = Recorder(gym.make_vec(ENV, num_envs=2, **arguments))
    make_sb3("PPO", recorder, 0, n_steps=4, batch_size=4).learn(8)
    assert sum(len(episode.actions) for episode in recorder.finished()) == 8


def test_what_cannot_be_read_or_recorded_is_refused(arguments, tmp_path):
    recorder, _ = recorded(arguments, 8)
    dataset = write(recorder, SET, gym.make(ENV, **arguments), "random", tmp_path)
    with pytest.raises(ValueError, match="transitions, 10000 were asked for"):
        replay_buffer(dataset, 10_000)
    with pytest.raises(FileNotFoundError, match="no Minari data set 'nothing-v0'"):
        load("nothing-v0", tmp_path)
    with pytest.raises(ValueError, match="NEXT_STEP"):
        Recorder(gym.make_vec(ENV, num_envs=2, autoreset_mode="next_step", **arguments))
    elsewhere = RayVectorEnv.__new__(RayVectorEnv)  # its dialogues are in its workers
    elsewhere.num_envs = 2
    with pytest.raises(ValueError, match="Recorder reads dialogues from `core`, which RayVectorEnv lacks"):
        Recorder(elsewhere)
    with pytest.raises(ValueError, match="no episodes to write"):
        write(Recorder(gym.make_vec(ENV, num_envs=2, **arguments)), SET, gym.make(ENV, **arguments), "random", tmp_path)
