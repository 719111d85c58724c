"""How the model is loaded, what generates, and what the agent sees are arguments of an environment."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

import dialog_envs  # noqa: F401
from dialog_envs.envs import dat
from dialog_envs.lm.frozen_lm import FrozenLM

from ..contracts.embeds_server import embeds_server

ID = "DialogEnvs/DATRedTeam-v0"


def arguments(folder, **more):
    return {"lm": str(folder), "up_map": "pca", "action_dim": 4, "max_new_tokens": 6, "temperature": 0.0, **more}


def test_an_environment_generates_on_a_server(model_folder, tmp_path):
    with embeds_server(FrozenLM.from_pretrained(model_folder())) as server:
        settings = tmp_path / "server.json"
        settings.write_text(json.dumps({"model": "tiny", "base_url": server.url}))
        said = []
        for engine in ("in_process", f"prompt_embeds:{settings}"):
            env = gym.make_vec(ID, num_envs=2, **arguments(model_folder(), engine=engine))
            env.reset(seed=0)
            info = env.step(np.full((2, 4), 0.5, np.float32))[4]
            said.append((info["agent_text"].tolist(), info["partner_text"].tolist()))
        assert said[0] == said[1]
        assert env.unwrapped.scalars()["engine/answers"] == len(server.requests) == 4  # both speakers of two rows


def test_how_a_model_is_loaded_passes_through(model_folder, monkeypatch):
    given, load = {}, FrozenLM.from_pretrained

    def record(name, device, dtype, **more):
        given.update(more, device=device, dtype=dtype)
        return load(name)

    dat._load_lm.cache_clear()
    monkeypatch.setattr(FrozenLM, "from_pretrained", record)
    wanted = {"dtype": "bfloat16", "device_map": "auto", "quantization": "4bit", "compile": True}
    gym.make(ID, **arguments(model_folder(), **wanted))
    assert given == {**wanted, "device": "cpu"}
    dat._load_lm.cache_clear()


@pytest.mark.parametrize("engine", ["in_process:x", "prompt_embeds", "vllm:x"])
def test_an_engine_that_is_none_is_refused_by_name(model_folder, engine):
    with pytest.raises(ValueError, match=f"engine is '{engine}', expected|unknown engine 'vllm'"):
        gym.make(ID, **arguments(model_folder(), engine=engine))


def test_past_actions_stand_behind_the_hidden_state_latest_first(model_folder):
    plain = gym.make_vec(ID, num_envs=2, **arguments(model_folder()))
    env = gym.make_vec(ID, num_envs=2, **arguments(model_folder(), past_actions=2))
    hidden = plain.single_observation_space.shape[0]
    assert env.single_observation_space.shape == (hidden + 8,)
    first, second = np.full((2, 4), 0.5, np.float32), np.array([[0.1] * 4, [-0.2] * 4], np.float32)
    expected = [np.zeros((2, 8)), np.hstack([first, np.zeros((2, 4))]), np.hstack([second, first])]
    alone = [plain.reset(seed=0)[0], *(plain.step(action)[0] for action in (first, second))]
    seen = [env.reset(seed=0)[0], *(env.step(action)[0] for action in (first, second))]
    for whole, hidden_state, past in zip(seen, alone, expected, strict=True):
        np.testing.assert_array_equal(whole[:, :hidden], hidden_state)  # the same dialogue, whatever the agent sees
        np.testing.assert_array_equal(whole[:, hidden:], past.astype(np.float32))
    last = env.step(first)  # the third round: the dialogues end, and the next ones know of no action
    np.testing.assert_array_equal(last[0][:, hidden:], 0)
    np.testing.assert_array_equal(np.stack(last[4]["final_obs"])[:, hidden:], np.hstack([first, second]))


def test_past_actions_are_part_of_the_state(model_folder):
    def make():
        return gym.make_vec(ID, num_envs=2, **arguments(model_folder(), past_actions=2)).unwrapped

    begun, resumed = make(), make()
    begun.reset(seed=0)
    action = np.full((2, 4), 0.1, np.float32)  # whose numbers are not exact in decimals
    begun.step(action)
    resumed.reset(seed=1)
    resumed.core.set_state(json.loads(json.dumps(begun.core.get_state())))
    np.testing.assert_array_equal(resumed.step(-action)[0], begun.step(-action)[0])


def test_a_negative_number_of_past_actions_is_refused(model_folder):
    with pytest.raises(ValueError, match="past_actions is -1, expected"):
        gym.make(ID, **arguments(model_folder(), past_actions=-1))
