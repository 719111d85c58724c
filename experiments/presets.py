"""Presets: hyper-parameters of an algorithm on an environment, in the YAML form of RL Baselines3 Zoo.

`experiments/hyperparams/ALGORITHM.yml` maps ids to hyper-parameters; the files of Stable-Baselines3's algorithms hold
nothing that RL-Zoo does not read (`--conf-file`). `environments.yml` beside them holds what all algorithms share.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv

import dialog_envs  # noqa: F401  (registers the ids)
from agents.ray_vector_env import make_vec
from agents.rounds import Rounds, train_in_rounds
from agents.sb3 import ALGORITHMS, CHECKPOINT, load_sb3, make_sb3, train_sb3
from agents.td3_bc import TD3BCConfig
from dialog_envs.names import look_up
from experiments import train
from experiments.episodes import Episode, Policy, paired_design, run_episodes
from experiments.run_folder import model_files, open_run
from experiments.watch import Watch

FOLDER = Path(str(files("experiments"))) / "hyperparams"
ENVIRONMENTS = "environments.yml"
OFFLINE = "td3_bc"
KNOWN = (OFFLINE, *(name.lower() for name in ALGORITHMS))
OF_RUNS = {"n_envs": 64, "n_timesteps": 5_120}  # every preset has them; here with an example
OF_ENVIRONMENTS: dict[str, Any] = {"env_kwargs": {}, "eval_env_kwargs": {}}
NOISE = {"noise_type": "normal", "noise_std": 0.1}  # RL-Zoo's names for TD3's exploration
LOADING = ("lm", "device", "dtype")  # options of `train` that are the environment's arguments
OURS = ("self", "env", "seed", "device", "verbose", "tensorboard_log", "actions")  # not a preset's to set


@dataclass(frozen=True)
class Preset:
    """An algorithm's settings on an environment.

    Attributes:
        algorithm: `td3_bc`, or one of Stable-Baselines3 in lower case.
        env: id of the environment.
        n_envs: dialogues at a time.
        n_timesteps: environment steps.
        learner: the algorithm's own arguments.
        env_kwargs: the environment's arguments.
        eval_env_kwargs: those that differ where it is measured.
        files: where all this was read.
    """

    algorithm: str
    env: str
    n_envs: int
    n_timesteps: int
    learner: Mapping[str, Any]
    env_kwargs: Mapping[str, Any]
    eval_env_kwargs: Mapping[str, Any]
    files: tuple[Path, ...]


def find(name: str, algorithm: str) -> Preset:
    """Return the preset of a name: an environment's id, or `FILE.yml:ID` for one of the user's own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has no such environment, or what it says of it cannot be meant; the message names the file,
            the environment and the key.
    """
    look_up("algorithm with presets", algorithm, dict.fromkeys(KNOWN))
    given, _, env = name.rpartition(":")
    path = Path(given) if given else FOLDER / f"{algorithm}.yml"
    values = dict(look_up(f"environment of {path}", env, read(path)))
    shared = dict(read(FOLDER / ENVIRONMENTS).get(env, {}))
    place = f"{path}, {env}"
    defaults = arguments_of(algorithm)
    for key, value in values.items():
        kinds = OF_RUNS | OF_ENVIRONMENTS | defaults
        check(f"{place}: {key}", value, look_up(f"key in {place}:", key, kinds))
    for key in OF_RUNS:
        if values.get(key, 0) < 1:
            raise ValueError(f"{place}: {key} is {values.get(key)}, expected a positive whole number")
    if env not in gym.registry:
        raise ValueError(f"{place}: no such environment is registered")
    kwargs = [{**shared.get(key, {}), **values.get(key, {})} for key in OF_ENVIRONMENTS]
    learner = {key: value for key, value in values.items() if key in defaults}
    return Preset(
        algorithm, env, values["n_envs"], values["n_timesteps"], learner, *kwargs, (path, FOLDER / ENVIRONMENTS)
    )


def read(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """Return a file's environments with their entries.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no YAML, or no mapping of mappings.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file of presets {path}")
    try:
        found = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise ValueError(f"{path} is no mapping of environment ids to hyper-parameters")
    return found


def arguments_of(algorithm: str) -> dict[str, Any]:
    """Return what an algorithm can be told, with its defaults."""
    if algorithm == OFFLINE:
        fields = (*dataclasses.fields(TD3BCConfig), *dataclasses.fields(Rounds))
        found = {field.name: field.default for field in fields if field.name != "transitions"}  # that is n_timesteps
    else:
        parameters = inspect.signature(ALGORITHMS[algorithm.upper()].__init__).parameters.values()
        found = {one.name: one.default for one in parameters if one.kind is not one.VAR_KEYWORD}
        found |= {"policy": "MlpPolicy", "policy_kwargs": {}} | (NOISE if algorithm == "td3" else {})
    return {name: default for name, default in found.items() if name not in OURS}


def check(place: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default: a number, a text, a list, a mapping, true or false."""
    kinds = {bool: bool, int: (int, float), float: (int, float), str: (str, int, float), tuple: list, dict: dict}
    kind = kinds.get(type(default), object)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool and kind is not object):
        raise ValueError(f"{place} is {value!r}, expected {_named(default)}")
    if type(default) is int and isinstance(value, float):
        raise ValueError(f"{place} is {value!r}, expected {_named(default)}")


def _named(default: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", tuple: "a list", dict: "a mapping"}
    return f"{names.get(type(default), 'a text')} such as {default!r}"


def run(config: train.Config) -> Path:
    """Train every seed by the preset that the configuration names; return the run folder."""
    preset = find(config.preset, config.algorithm)
    refuse_options(preset, config)
    data = [*model_files(config.lm), *preset.files]  # so that a run goes on with the same presets, or not at all
    out = open_run(config.out, "train", config, data, changeable=("seeds", "out", "ray_address"))
    curves = [train_seed(preset, config, seed, out / f"seed_{seed}") for seed in range(config.seeds)]
    train.write_curves(out, preset.algorithm, curves)
    return out


def env_arguments(preset: Preset, config: train.Config) -> dict[str, Any]:
    """Return the environment's arguments: the preset's, and how its models are loaded where that is not the default."""
    given = {name: getattr(config, name) for name in LOADING if getattr(config, name) != getattr(train.Config, name)}
    return {**preset.env_kwargs, **given}


def refuse_options(preset: Preset, config: train.Config) -> None:
    """Refuse what was asked for and cannot be done in the preset's environment.

    Raises:
        ValueError: the environment does not take an option, or has no actions that noise can lie on.
    """
    try:
        env = gym.make(preset.env, **env_arguments(preset, config))
    except TypeError as error:
        given = ", ".join(f"--{name} {getattr(config, name)}" for name in LOADING)
        raise ValueError(f"{preset.env} does not take all of {given} and {dict(preset.env_kwargs)}: {error}") from None
    if not isinstance(env.action_space, Box) and config.play_noise not in (0.0, train.Config.play_noise):
        raise ValueError(f"play_noise is {config.play_noise}, but {preset.env} is a choice: no noise can lie on it")


def as_played(policy: Policy, env: VectorEnv, config: train.Config, seed: int) -> Policy:
    """Return a trained policy as it is played: with noise, drawn with this seed, where actions are vectors."""
    space = env.unwrapped.single_action_space
    if not isinstance(space, Box):
        return policy
    return train.with_noise(policy, space, env.unwrapped.action_set, config.play_noise, seed)


def load_policies(folder: Path) -> list[Policy]:
    """Return the policies of a run folder that `run` wrote as they are played, one a seed."""
    config = train.Config(**json.loads((folder / "run.json").read_text())["config"])
    preset = find(config.preset, config.algorithm)
    env = gym.make_vec(preset.env, num_envs=preset.n_envs, **env_arguments(preset, config))
    if preset.algorithm == OFFLINE:
        found = [train.LOADERS[train.POLICY](file) for file in sorted(folder.glob(f"seed_*/{train.POLICY}"))]
    else:
        found = [train.sb3_policy(load_sb3(file.parent, env)) for file in sorted(folder.glob(f"seed_*/{CHECKPOINT}"))]
    return [as_played(policy, env, config, seed) for seed, policy in enumerate(found)]


def train_seed(preset: Preset, config: train.Config, seed: int, folder: Path) -> train.Curve:
    """Train one seed, or go on with it; return its curve on the held-out scenarios."""
    arguments = env_arguments(preset, config)
    held_out = {**arguments, **preset.eval_env_kwargs}
    known = gym.make(preset.env, **held_out).unwrapped.core.scenarios
    chosen, seeds = paired_design(list(known), config.evaluation_episodes, 100 + seed)

    def play(policy: Policy) -> list[Episode]:
        return run_episodes(
            held_out, as_played(policy, env, config, seed), chosen, seeds, env_id=preset.env, rows=preset.n_envs
        )

    watch = Watch(config.watch, arguments.get("reward", ""))
    measure = train.Measure(folder / train.CURVE, play, watch, list(known.values()))
    spread = (config.ray_workers, config.ray_address, config.ray_gpus)
    env = make_vec(preset.env, preset.n_envs, *spread, **arguments)
    if preset.algorithm == OFFLINE:
        names = [field.name for field in dataclasses.fields(Rounds)]
        plan = Rounds(preset.n_timesteps, **{k: v for k, v in preset.learner.items() if k in names})
        settings = {k: tuple(v) if k == "hidden" else v for k, v in preset.learner.items() if k not in names}
        action_set = env.unwrapped.action_set
        learner, _ = train_in_rounds(env, TD3BCConfig(**settings, actions=action_set, seed=seed), plan, folder, measure)
        learner.save(folder / train.POLICY)
    else:
        settings = {"gamma": 0.99} | {k: v for k, v in preset.learner.items() if k not in ("policy", *NOISE)}
        if "noise_std" in preset.learner:
            settings["action_noise_sigma"] = preset.learner["noise_std"]
        model = make_sb3(preset.algorithm.upper(), env, seed, **settings)
        every = max(1, preset.n_timesteps // max(1, config.evaluations))
        train_sb3(
            model,
            preset.n_timesteps,
            every,
            folder,
            evaluate=lambda model: measure(model.num_timesteps, train.sb3_policy(model)),
        )
    env.close()
    return measure.curve
