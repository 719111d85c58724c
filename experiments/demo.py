"""The main job in ten minutes: train planners on the shipped model and compare them on held-out scenarios."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from dialog_envs import scenarios
from dialog_envs.envs.dat import load_lm
from experiments import evaluate, train
from experiments.episodes import Episode
from experiments.evaluate import find_system, print_table, table, values, write_episodes
from experiments.page import write_transcript_page
from experiments.plots import plot_curves
from experiments.run_folder import model_files, open_run, write_results
from experiments.statistics import clustered_ci95


@dataclass(frozen=True)
class Config:
    """Unsteered, random, best fixed action, self-cloned and TD3+BC on scenarios that no planner has met."""

    out: Path = Path("runs/demo")
    """Run folder."""
    up_map: str = "latent"
    """Up-mapping that the planners act through."""
    max_turns: int = 8
    """Agent turns a dialogue; planners see all their earlier actions in it."""
    transitions: int = 6_144
    """Environment steps of each planner's training."""
    rounds: int = 4
    """Rounds of TD3+BC: the first on random actions, each later one on data of the policy before it too."""
    steps: int = 1_000
    """Gradient steps of a round."""
    seeds: int = 1
    """Planners, and seeds of every other system's dialogues. One is what ten minutes have time for; `compare` trains
    three of each kind."""
    episodes: int = 102
    """Held-out dialogues a system and seed."""
    candidates: int = 8
    """Fixed actions that the best is searched among, on training scenarios."""
    search_transitions: int = 1_024
    """Environment steps of that search; its one action is shared by all seeds."""
    rows: int = 64
    """Dialogues at a time."""
    threads: int = 2
    """CPU threads."""


def run(config: Config) -> Path:
    """Train, compare, and write table, curve, TensorBoard and transcripts; return the run folder."""
    torch.set_num_threads(config.threads)
    began = time.perf_counter()
    out = open_run(config.out, "demo", config, model_files("pocket"), changeable=("out", "threads"))
    view = {"up_map": config.up_map, "max_turns": config.max_turns, "past_actions": config.max_turns - 1}
    training = train.Config(
        out=out / "td3_bc",
        **view,
        transitions=config.transitions,
        rounds=config.rounds,
        steps=config.steps,
        seeds=config.seeds,
        rows=config.rows,
        candidates=config.candidates,
        evaluation_episodes=32,
    )
    search = replace(
        training, algorithm="best_fixed", out=out / "best_fixed", transitions=config.search_transitions, seeds=1
    )
    for planner in (training, search):
        train.run(planner)  # a run folder that `evaluate`, `datasets` and `report` read
    comparison = evaluate.Config(**view, episodes=config.episodes, seeds=config.seeds, rows=config.rows)
    systems = {
        "unsteered": find_system("unsteered", comparison),
        "random": find_system("random", comparison),
        "best fixed action": find_system(str(search.out), comparison),
        "self-cloned": find_system("clone", comparison),
        "TD3+BC": find_system(str(training.out), comparison),
    }
    episodes = {name: evaluate.evaluate(s, config.episodes, config.rows, name) for name, s in systems.items()}
    rows = table(episodes, load_lm("pocket", "cpu", "float32"), scenarios.load("heldout"))
    write_results(out, rows)
    write_episodes(out, episodes)
    curve = out / "curve.png"
    curves = [train.read_curve(training.out / f"seed_{seed}" / train.CURVE) for seed in range(config.seeds)]
    draw(curve, curves, episodes)
    facts = {"scenarios": "held out", "model": "pocket", "up-mapping": config.up_map}
    firsts = {name: episodes[name][0] for name in ("unsteered", "TD3+BC")}
    write_transcript_page(
        out / "transcripts.html", "Unsteered and steered, same scenario and seed", firsts, rows, curve, facts
    )
    print_table(rows)
    print(f"\n{time.perf_counter() - began:.0f} s. Curve: {curve}; transcripts: {out / 'transcripts.html'}")
    print(f"TensorBoard: tensorboard --logdir {out}")
    return out


def draw(path: Path, curves: list[train.Curve], episodes: dict[str, list[list[Episode]]]) -> None:
    """Plot the planners' held-out curve with the other systems as lines."""
    steps = [step for step, _ in curves[0]]
    means = np.array([[np.nanmean(values) for _, values in curve] for curve in curves])
    baselines = {
        name: clustered_ci95(values(per_seed, "episode_return"))
        for name, per_seed in episodes.items()
        if name != "TD3+BC"
    }
    plot_curves(path, {"TD3+BC": (steps, means)}, "environment steps", "return on held-out scenarios", baselines)
