"""`datasets`: three sets of one environment, on the same dialogues, whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from agents.baselines import ConstantPolicy
from agents.minari_data import load
from experiments import datasets
from experiments.__main__ import main
from experiments.run_folder import write_json


@pytest.fixture
def config(model_folder, tmp_path):
    arguments = {"lm": str(model_folder()), "up_map": "pca", "action_dim": 4, "max_new_tokens": 6, "max_turns": 2}
    run = tmp_path / "run"
    ConstantPolicy(np.full(4, 0.5)).save(run / "seed_0/fixed_action.safetensors")
    write_json(run / "run.json", {"config": {"past_actions": 1, "preset": None}})  # what it saw in training
    return datasets.Config(arguments=json.dumps(arguments), expert=run, episodes=7, rows=3, out=tmp_path)


def test_three_sets_on_the_same_dialogues(config):
    out = datasets.run(config)
    rows = {(row["system"], row["metric"]): row for row in json.loads((out / "results.json").read_text())}
    designs = []
    for name in datasets.SETS:
        dataset = load(f"dialog-envs/DATSocial/{name}-v0", out / "minari")
        assert dataset.total_episodes == 7 == rows[name, "episode_return"]["n"]
        assert dataset.total_steps == rows[name, "transitions"]["value"]
        metadata = list(dataset.storage.get_episode_metadata(range(7)))
        assert dataset.env_spec.kwargs["past_actions"] == 1
        designs.append([(one["seed"], one["options"]["scenario"]) for one in metadata])
        actions = np.concatenate([episode.actions for episode in dataset.iterate_episodes()])
        if name == "unsteered":
            assert not actions.any() and dataset.env_spec.kwargs["up_map"] == "none"
        if name == "expert":
            assert (actions == 0.5).all()
            assert dataset.storage.metadata["ref_max_score"] == pytest.approx(rows["expert", "episode_return"]["value"])
    assert designs[0] == designs[1] == designs[2] and len(set(designs[0])) == 7


def test_discrete_choices(model_folder, critic_folder, tmp_path):
    arguments = {"lm": str(model_folder()), "reward": f"persona_critic:{critic_folder}", "candidates": 2}
    arguments |= {"max_new_tokens": 6, "persona_tokens": 6}
    config = datasets.Config(
        "DialogEnvs/PPGSelect-v0", ("random", "unsteered"), arguments=json.dumps(arguments), episodes=3, rows=2,
        out=tmp_path,
    )  # fmt: skip
    datasets.run(config)
    dataset = load("dialog-envs/PPGSelect/unsteered-v0", tmp_path / "minari")
    episode = next(dataset.iterate_episodes())
    assert isinstance(dataset.action_space, gym.spaces.Discrete) and not episode.actions.any()
    assert len(episode) == 2 and episode.infos["thought"][1] and not episode.infos["agent_text"][1]


def test_every_environment_has_an_unsteered_set_but_the_one_whose_actions_are_words():
    ids = {name for name in gym.registry if name.startswith("DialogEnvs/")}
    assert {*datasets.UNSTEERED, datasets.EMPATHY} == ids - {"DialogEnvs/PPG-v0"}
    with pytest.raises(ValueError, match="PPG-v0 has no unsteered set"):
        datasets.find_policy(datasets.Config(env="DialogEnvs/PPG-v0"), "unsteered", gym.spaces.Discrete(2), None)


def test_bad_input_is_refused_by_name(capsys, tmp_path):
    assert main(["datasets", "--out", str(tmp_path)]) == 1
    assert "takes --expert" in capsys.readouterr().err
    assert main(["datasets", "--sets", "expart", "--out", str(tmp_path)]) == 1
    assert "did you mean 'expert'" in capsys.readouterr().err
    assert not Path(tmp_path / "minari").exists()
