"""One cell and seed: make its mapping, train, play the held-out dialogues, measure their language.

What several cells of a seed would make alike, bit for bit, is made once and lies in `shared/seed_N`.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.baselines import ZeroPolicy
from agents.lm_reinforce import LMReinforce, LMReinforceConfig
from dialog_envs import scenarios
from dialog_envs.envs.dat import load_lm, social_core
from dialog_envs.lm.up_maps import up_mapping
from dialog_envs.scenarios import AGENT
from experiments import evaluate, steering, train
from experiments.episodes import Episode, Policy, read_episodes, save_episodes
from experiments.fixed_action import action_dim
from experiments.language import panel
from experiments.run_folder import write_json
from experiments.sweep.config import CELLS, REINFORCE, Cell, Config, MappingPlan
from reward_models.dmi.encoder import POCKET as ENCODER
from reward_models.dmi.reward import CoherenceReward

EPISODES, LANGUAGE, COST = "episodes.json", "language.json", "cost.json"
COHERENCE = "coherence"
UTTERANCES, FIRST_ROUND = "utterances.safetensors", "first_round.safetensors"  # what cells of a seed share


def folder_of(config: Config, key: str, seed: int) -> Path:
    """Return where a cell and seed lies."""
    return config.out / "cells" / key / f"seed_{seed}"


def shared_file(config: Config, part: str, seed: int) -> Path:
    """Return where a part that cells of a seed share lies."""
    return config.out / "shared" / f"seed_{seed}" / part


def parts_of(key: str) -> list[str]:
    """Return the shared parts that a cell takes."""
    cell = CELLS[key]
    parts = [UTTERANCES] if cell.mapping.kind.startswith("train-") else []
    return parts + ([FIRST_ROUND] if cell.algorithm == "td3_bc" and cell.mapping == MappingPlan() else [])


def parts_missing(config: Config, keys: Sequence[str], seed: int) -> list[str]:
    """Return the shared parts that cells which have no dialogues yet take."""
    left = [key for key in keys if not (folder_of(config, key, seed) / EPISODES).exists()]
    return sorted({part for key in left for part in parts_of(key)})


def make_part(config: Config, part: str, seed: int) -> None:
    """Make a shared part, or what is missing of it."""
    torch.set_num_threads(1)
    path = shared_file(config, part, seed)
    fresh, began = not path.exists(), time.process_time()
    if part == UTTERANCES:
        settings = mapping_config(config, MappingPlan("train-latent"), seed)
        steering.unsteered_utterances(settings, settings.train_utterances, seed, path)
    else:
        train.collect_first_round(training_config(config, CELLS["latent"]), seed, path)
    if fresh:
        write_json(path.with_suffix(".json"), {"cpu_minutes": (time.process_time() - began) / 60})


def attempted(work: Callable[..., None], config: Config, *job: Any) -> str | None:
    """Do a cell or a part; return what went wrong, so that the others go on."""
    try:
        work(config, *job)
    except Exception as error:
        traceback.print_exc()
        return f"{job[0]}, seed {job[1]}: {type(error).__name__}: {error}"
    return None


def run_cell(config: Config, key: str, seed: int) -> None:
    """Do one cell and seed, or what is missing of it."""
    torch.set_num_threads(1)
    folder = folder_of(config, key, seed)
    if not (folder / EPISODES).exists():
        fresh = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        began = time.process_time()
        arguments, policy = make_agent(config, key, seed, folder)
        episodes = evaluate.evaluate_seed(arguments, policy, config.episodes, seed, config.rows, f"{key}, seed {seed}")
        costs = [shared_file(config, part, seed).with_suffix(".json") for part in parts_of(key)]
        if fresh and all(cost.exists() for cost in costs):  # of what was broken off none is known
            shared = sum(json.loads(cost.read_text())["cpu_minutes"] for cost in costs)
            write_json(folder / COST, {"cpu_minutes": (time.process_time() - began) / 60 + shared})
        save_episodes(folder / EPISODES, episodes)
    measure_language(config, folder)


def make_agent(config: Config, key: str, seed: int, folder: Path) -> tuple[Mapping[str, Any], Policy]:
    """Train what a cell trains; return the arguments of the environment that it is measured in, and its policy."""
    cell = CELLS[key]
    arguments = evaluate.Config.of(config).env()
    if cell.algorithm == REINFORCE:
        learned = train_own_weights(config, cell, seed, folder)
        arguments |= {"lm": str(learned), "partner_lm": config.lm, "up_map": "none"}
        return arguments, ZeroPolicy(action_dim(arguments))
    arguments |= {"up_map": make_mapping(config, cell.mapping, seed, folder)}
    if cell.algorithm is None:
        return arguments, ZeroPolicy(action_dim(arguments))
    training = training_config(config, cell, up_map=arguments["up_map"], out=folder.parent)
    first = shared_file(config, FIRST_ROUND, seed) if FIRST_ROUND in parts_of(key) else None
    return arguments, train.train_seed(training, seed, folder.parent, first=first)[0]


def training_config(config: Config, cell: Cell, **more: Any) -> train.Config:
    """Return how a cell's planner is trained."""
    settings = {field.name: getattr(config, field.name) for field in fields(train.Settings)} | dict(cell.settings)
    return train.Config(**settings | {"algorithm": cell.algorithm} | more)


def mapping_config(config: Config, plan: MappingPlan, seed: int) -> steering.Config:
    """Return how a mapping is trained."""
    trained = plan.kind.removeprefix("train-")
    return steering.Config(
        lm=config.lm,
        up_map=plan.start,
        train=trained,
        train_steps=config.mapping_steps,
        train_utterances=config.mapping_utterances,
        train_up_map=plan.train_up_map,
        action_dim=plan.action_dim,
        prefix_length=plan.prefix_length,
        position=plan.position if trained == "latent" else None,
        scenarios=config.scenarios,
        seed=seed,
        rows=config.rows,
        device=config.device,
        dtype=config.dtype,
    )


def make_mapping(config: Config, plan: MappingPlan, seed: int, folder: Path) -> str:
    """Return an up-mapping's name or file; what is made for a cell and seed lies in its folder."""
    if plan.kind == "pca":
        path = folder / "pca.safetensors"
        lm = load_lm(config.lm, config.device, config.dtype)
        up_mapping("pca", lm, config.lm, plan.action_dim, plan.prefix_length, plan.position).save(path)
        return str(path)
    trained = plan.kind.removeprefix("train-")
    if trained == plan.kind:
        return plan.kind
    path = folder / f"{trained}.safetensors"
    if not path.exists():
        steering.train_mapping(mapping_config(config, plan, seed), folder, shared_file(config, UTTERANCES, seed))
    return str(path)


def train_own_weights(config: Config, cell: Cell, seed: int, folder: Path) -> Path:
    """Train the language model's own weights on as many environment steps as a planner gets; return its folder."""
    learned = folder / "lm"
    if not (learned / "config.json").exists():
        core = social_core(config.reinforce_rows, **config.env(up_map="none"))
        learner = LMReinforce(core, replace(LMReinforceConfig(seed=seed), **cell.settings))
        learner.train(config.transitions, folder)
        write_json(folder / "history.json", learner.history)
        learner.save_pretrained(learned)
    return learned


def measure_language(config: Config, folder: Path) -> None:
    """Write what the language of a cell's dialogues is worth, under the unsteered model; once, or where more is known.

    A number that nothing can be said of (all dialogues failed) is NaN.
    """
    path = folder / LANGUAGE
    encoder = encoder_of(config)
    known = json.loads(path.read_text()) if path.exists() else {}
    if known and (COHERENCE in known or encoder is None):
        return
    whole = [episode for episode in read_episodes(folder / EPISODES) if episode.error is None]
    if not known:
        known = panel(whole, load_lm(config.lm, config.device, config.dtype), scenarios.load(config.heldout))
    if encoder is not None:
        known[COHERENCE] = coherence(whole, encoder)
    write_json(path, known)


def encoder_of(config: Config) -> Path | None:
    """Return the folder of the encoder that measures coherence; None where there is none."""
    return config.coherence or (ENCODER if ENCODER.is_dir() else None)


def coherence(episodes: list[Episode], encoder: Path) -> float:
    """Return the mean coherence of the agent's turns with what was said before them, in [0, 1]."""
    scored = CoherenceReward.from_pretrained(encoder).score_turns([episode.turns for episode in episodes], AGENT)
    return float(np.nanmean(np.concatenate(scored))) if scored else float("nan")
