"""Presets: one for every environment and learner, refused by name where they cannot be meant, and they train."""

from __future__ import annotations

import dataclasses
import inspect
import json
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
import tyro
import yaml

from agents.rounds import FEW_TRANSITIONS, Rounds
from agents.sb3 import ALGORITHMS
from experiments import presets, train

IDS = {name for name in gym.registry if name.startswith("DialogEnvs/")}
OWN_LEARNER = {"DialogEnvs/PPG-v0"}  # its actions are whole texts: `python -m experiments ppg` trains their generators
SHIPPED = [(env, path.stem) for path in presets.FOLDER.glob("*.yml") if path.stem in presets.KNOWN
           for env in presets.read(path)]  # fmt: skip
RL_ZOO = {"n_envs", "n_timesteps", "noise_type", "noise_std"}  # what it reads besides the algorithm's own arguments


@dataclass(frozen=True)
class Config(train.Config):
    preset: str = ""


@pytest.mark.parametrize(("env", "algorithm"), SHIPPED)
def test_every_shipped_preset_is_sound(env, algorithm):
    preset = presets.find(env, algorithm)
    assert preset.n_timesteps % preset.n_envs == 0 and preset.env == env


def test_every_environment_and_every_algorithm_has_one():
    assert {env for env, _ in SHIPPED} == IDS - OWN_LEARNER
    assert {algorithm for _, algorithm in SHIPPED} == {"td3_bc", *map(str.lower, ALGORITHMS)}


@pytest.mark.parametrize("algorithm", [name.lower() for name in ALGORITHMS])
def test_rl_zoo_would_understand_what_is_stable_baselines_own(algorithm):
    taken = set(inspect.signature(ALGORITHMS[algorithm.upper()].__mro__[0].__init__).parameters) | RL_ZOO
    for hyperparameters in presets.read(presets.FOLDER / f"{algorithm}.yml").values():
        assert set(hyperparameters) <= taken


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"n_envs": 4, "n_timesteps": 8, "learning_rte": 1.0}, r"learning_rte'.* did you mean 'learning_rate'"),
        ({"n_envs": 4, "n_timesteps": 8, "learning_rate": "fast"}, "learning_rate is 'fast', expected a number"),
        ({"n_envs": 4, "n_timesteps": 8, "rounds": 1.5}, "rounds is 1.5, expected a whole number"),
        ({"n_envs": True, "n_timesteps": 8}, "n_envs is True, expected a whole number"),
        ({"n_envs": 4}, "n_timesteps is None, expected a positive whole number"),
        ({"n_envs": 4, "n_timesteps": 8, "seed": 3}, "unknown key .*'seed'"),
        ("none", "no mapping of environment ids"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(entry, message, tmp_path):
    file = tmp_path / "mine.yml"
    file.write_text(yaml.safe_dump({train.ENV_ID: entry}))
    with pytest.raises(ValueError, match=message) as raised:
        presets.find(f"{file}:{train.ENV_ID}", "td3_bc")
    assert str(file) in str(raised.value)


def test_unknown_names_and_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'DialogEnvs/DATSocial-v0'"):
        presets.find("DialogEnvs/DATSocial", "ppo")
    with pytest.raises(ValueError, match="algorithm with presets 'best_fixed'"):
        presets.find(train.ENV_ID, "best_fixed")
    with pytest.raises(FileNotFoundError, match="no file of presets"):
        presets.find(f"{tmp_path}/none.yml:{train.ENV_ID}", "ppo")
    (tmp_path / "broken.yml").write_text("a: [1,")
    with pytest.raises(ValueError, match=r"broken\.yml is not YAML"):
        presets.find(f"{tmp_path}/broken.yml:{train.ENV_ID}", "ppo")


def test_the_presets_of_dat_social_train_what_train_does_by_itself():
    for env, algorithm in SHIPPED:
        if env == train.ENV_ID:
            shown = presets.find(env, algorithm).env_kwargs
            assert (shown["past_actions"], shown["dense_reward"], shown["reward"]) == (
                train.Config.past_actions, train.Config.dense_reward, train.REWARD
            )  # fmt: skip
    own = dataclasses.asdict(FEW_TRANSITIONS) | dataclasses.asdict(Rounds())
    preset = presets.find(train.ENV_ID, "td3_bc")
    assert preset.n_timesteps == own["transitions"]
    assert {name: own[name] for name in preset.learner} == preset.learner | {"hidden": own["hidden"]}


def write_preset(tmp_path, env, **entry) -> str:
    file = tmp_path / "mine.yml"
    file.write_text(yaml.safe_dump({env: {"n_envs": 4, "n_timesteps": 16} | entry}))
    return f"{file}:{env}"


def test_options_go_into_the_environment_or_are_refused_by_name(model_folder, tmp_path):
    small = {"up_map": "pca", "action_dim": 4, "max_new_tokens": 6, "max_turns": 1}
    name = write_preset(tmp_path, train.ENV_ID, env_kwargs=small)
    config = Config(preset=name, out=tmp_path / "out", lm=str(model_folder()), dtype="bfloat16")
    preset = presets.find(name, "td3_bc")
    assert presets.env_arguments(preset, config)["dtype"] == "bfloat16"
    assert "device" not in presets.env_arguments(preset, config), "where it is not asked for, the environment's own"
    spread = dataclasses.replace(config, dtype="float32", ray_workers=3)
    with pytest.raises(ValueError, match="4 rows cannot be shared alike by 3 workers"):
        presets.run(spread)
    with pytest.raises(ValueError, match="'social_score' is the reward"):
        presets.run(dataclasses.replace(config, dtype="float32", out=tmp_path / "watched", watch=("social_score",)))
    with pytest.raises(ValueError, match=r"does not take all of --lm .* --dtype bfloat16"):
        other = write_preset(tmp_path, train.ENV_ID, env_kwargs={**small, "colour": "red"})
        presets.run(dataclasses.replace(config, preset=other))
    with pytest.raises(ValueError, match="'dqn' chooses among numbers, DialogEnvs/DATSocial-v0 takes vectors"):
        train.run(tyro.cli(train.Config, args=["--algorithm", "dqn", "--out", str(tmp_path / "none")]))


def test_planners_are_played_with_noise(model_folder):
    arguments = {"lm": str(model_folder()), "up_map": "pca", "action_dim": 4, "max_new_tokens": 6}
    env = gym.make_vec(train.ENV_ID, num_envs=2, **arguments)
    played = presets.as_played(lambda obs: np.zeros((len(obs), 4), np.float32), env, Config(play_noise=0.5), 0)
    still = presets.as_played(played.policy, env, Config(play_noise=0.0), 0)
    obs = env.reset(seed=0)[0]
    assert np.abs(played(obs)).min() > 0 and not still(obs).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "algorithm", "more"),
    [
        ("DialogEnvs/DATRedTeam-v0", "td3_bc", {"rounds": 2, "steps": 4, "hidden": [8]}),
        ("DialogEnvs/DATSocial-v0", "td3", {"batch_size": 8, "noise_type": "normal", "noise_std": 0.2}),
        ("DialogEnvs/PPGSelect-v0", "ppo", {"n_steps": 4, "batch_size": 8, "policy_kwargs": {"net_arch": [8]}}),
        ("DialogEnvs/EmpathyIntent-v0", "dqn", {"learning_starts": 4, "batch_size": 8, "buffer_size": 16}),
    ],
)
def test_a_preset_trains_and_goes_on(env, algorithm, more, model_folder, critic_folder, empathy, tmp_path):
    small = {"max_new_tokens": 6, "max_turns": 1}
    if "Empathy" in env:
        small |= empathy
    elif "PPG" in env:
        small |= {"candidates": 2, "persona_tokens": 6, "reward": f"persona_critic:{critic_folder}"}
    else:
        small |= {"up_map": "pca", "action_dim": 4}
    name = write_preset(tmp_path, env, env_kwargs=small, **more)
    config = Config(
        algorithm=algorithm, out=tmp_path / "out", lm=str(model_folder()), seeds=1, evaluations=1,
        evaluation_episodes=4, preset=name,
    )  # fmt: skip
    first = train.run(config)
    curve = json.loads((first / "seed_0/curve.json").read_text())
    assert curve[-1][0] == 16 and len(curve[-1][1]) == 4
    presets.run(config)
    assert json.loads((first / "seed_0/curve.json").read_text()) == curve
    (policy,) = presets.load_policies(first)
    space = gym.make(env, **presets.env_arguments(presets.find(name, algorithm), config))
    assert policy(np.zeros((3, *space.observation_space.shape), np.float32))[0] in space.action_space
    if algorithm == "dqn":
        with pytest.raises(ValueError, match=r"play_noise is 1\.0, but .* is a choice"):
            presets.run(dataclasses.replace(config, play_noise=1.0))
    file = tmp_path / "mine.yml"
    file.write_text(file.read_text().replace("n_timesteps: 16", "n_timesteps: 32"))
    with pytest.raises(ValueError, match=r"mine\.yml .*--out"):
        presets.run(config)
