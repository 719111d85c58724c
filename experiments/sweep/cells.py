"""One cell and seed: make its mapping, train, play the held-out dialogues, measure their language."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
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


def folder_of(config: Config, key: str, seed: int) -> Path:
    """Return where a cell and seed lies."""
    return config.out / "cells" / key / f"seed_{seed}"


def run_cell(config: Config, key: str, seed: int) -> None:
    """Do one cell and seed, or what is missing of it."""
    torch.set_num_threads(1)
    folder = folder_of(config, key, seed)
    if not (folder / EPISODES).exists():
        fresh = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        began = time.process_time()
        arguments, policy = make_agent(config, CELLS[key], seed, folder)
        episodes = evaluate.evaluate_seed(arguments, policy, config.episodes, seed, config.rows, f"{key}, seed {seed}")
        if fresh:  # a cell that was broken off has no cost that is known
            write_json(folder / COST, {"cpu_minutes": (time.process_time() - began) / 60})
        save_episodes(folder / EPISODES, episodes)
    measure_language(config, folder)


def make_agent(config: Config, cell: Cell, seed: int, folder: Path) -> tuple[Mapping[str, Any], Policy]:
    """Train what a cell trains; return the arguments of the environment that it is measured in, and its policy."""
    arguments = evaluate.Config.of(config).env()
    if cell.algorithm == REINFORCE:
        learned = train_own_weights(config, cell, seed, folder)
        arguments |= {"lm": str(learned), "partner_lm": config.lm, "up_map": "none"}
        return arguments, ZeroPolicy(action_dim(arguments))
    arguments |= {"up_map": make_mapping(config, cell.mapping, seed, folder)}
    if cell.algorithm is None:
        return arguments, ZeroPolicy(action_dim(arguments))
    settings = {field.name: getattr(config, field.name) for field in fields(train.Settings)} | dict(cell.settings)
    training = train.Config(
        **settings | {"algorithm": cell.algorithm, "up_map": arguments["up_map"], "out": folder.parent}
    )
    return arguments, train.train_seed(training, seed, folder.parent)[0]


def make_mapping(config: Config, plan: MappingPlan, seed: int, folder: Path) -> str:
    """Return an up-mapping's name or file; what is made for a cell and seed lies in its folder."""
    if plan.kind == "pca":
        path = folder / "pca.safetensors"
        lm = load_lm(config.lm, "cpu", "float32")
        up_mapping("pca", lm, config.lm, plan.action_dim, plan.prefix_length, plan.position).save(path)
        return str(path)
    trained = plan.kind.removeprefix("train-")
    if trained == plan.kind:
        return plan.kind
    path = folder / f"{trained}.safetensors"
    if not path.exists():
        settings = steering.Config(
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
        )
        steering.train_mapping(settings, folder)
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
    encoder = config.coherence or (ENCODER if ENCODER.is_dir() else None)
    known = json.loads(path.read_text()) if path.exists() else {}
    if known and (COHERENCE in known or encoder is None):
        return
    whole = [episode for episode in read_episodes(folder / EPISODES) if episode.error is None]
    if not known:
        known = panel(whole, load_lm(config.lm, "cpu", "float32"), scenarios.load(config.heldout))
    if encoder is not None:
        known[COHERENCE] = coherence(whole, encoder)
    write_json(path, known)


def coherence(episodes: list[Episode], encoder: Path) -> float:
    """Return the mean coherence of the agent's turns with what was said before them, in [0, 1]."""
    scored = CoherenceReward.from_pretrained(encoder).score_turns([episode.turns for episode in episodes], AGENT)
    return float(np.nanmean(np.concatenate(scored))) if scored else float("nan")
