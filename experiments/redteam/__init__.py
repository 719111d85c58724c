"""Red teaming: attack success rates of planners and baselines, against defenders of two strengths and unseen ones.

A cell is a system, a seed, for trained systems the defender that it was trained against, and the defender that it is
played against. Its dialogues are a file; a run does the cells that have none.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tqdm import tqdm

from dialog_envs import scenarios
from dialog_envs.envs.dat import load_lm
from experiments.episodes import read_episodes, save_episodes
from experiments.redteam import report
from experiments.redteam.attack import QUERIES, make_policies, play
from experiments.redteam.config import CHANGEABLE, SYSTEMS, Config, Defender
from experiments.redteam.report import Attack
from experiments.run_folder import open_run
from experiments.train import CURVE, data_files, read_curve
from experiments.watch import Watch

__all__ = ["Config", "run"]


def run(config: Config) -> Path:
    """Do every cell that is not done, then write tables, figures and transcripts; return the run folder.

    Raises:
        ValueError: `Config.check` finds something, a reward or a held-out judge is unknown, a held-out judge cannot
            judge the held-out scenarios, or the folder was begun with other settings.
    """
    config.check()
    watch = Watch(config.watch, config.reward)
    watch.check(scenarios.load(config.heldout))
    torch.set_num_threads(config.threads)
    models = [config.lm, *(defender.lm for defender in config.all_defenders() if defender.lm)]
    weights = [path for model in models for path in data_files(model)]
    sets = (name.partition("#")[0].partition(":")[2] for name in (config.scenarios, config.heldout))
    files = [*weights, *data_files(config.lm, config.up_map, config.clone_map), *(Path(file) for file in sets if file)]
    out = open_run(config.out, "redteam", config, dict.fromkeys(files), CHANGEABLE)
    cells = [
        (seed, name, against)
        for seed in range(config.seeds)
        for name in config.systems
        for against in (config.trained_against() if SYSTEMS[name].trained else (None,))
    ]
    with tqdm(cells, unit="cell") as bar:
        for seed, name, against in bar:
            bar.set_description(f"{name}, seed {seed}" + (f", trained against {against}" if against else ""))
            run_cells(config, seed, name, against)
    report.write(config, collected(config), load_lm(config.lm, config.device, config.dtype), watch)
    return out


def run_cells(config: Config, seed: int, name: str, against: Defender | None) -> None:
    """Train one system with one seed against one defender, and play it against all, where that is not done yet."""
    folder = cell_folder(config, seed, name, against)
    missing = [defender for defender in config.all_defenders() if not (folder / defender.file).exists()]
    if not missing:
        return
    policies = make_policies(config, name, seed, against, folder)
    for defender in missing:
        episodes = play(config, name, policies, seed, defender, f"{name}, seed {seed}, against {defender}")
        save_episodes(folder / defender.file, episodes)


def cell_folder(config: Config, seed: int, name: str, against: Defender | None) -> Path:
    """Return where a system of one seed lies."""
    folder = config.out / name
    return (folder / f"trained_{against.file.removesuffix('.json')}" if against else folder) / f"seed_{seed}"


def collected(config: Config) -> list[Attack]:
    """Read every cell."""
    found = []
    for name in config.systems:
        for against in config.trained_against() if SYSTEMS[name].trained else (None,):
            folders = [cell_folder(config, seed, name, against) for seed in range(config.seeds)]
            curves = [read_curve(folder / CURVE) for folder in folders if (folder / CURVE).exists()]
            training = [
                [json.loads(path.read_text()) for path in sorted(folder.glob(f"**/{QUERIES}"))] for folder in folders
            ]
            for defender in config.all_defenders():
                told = [read_episodes(folder / defender.file) for folder in folders]
                found.append(Attack(SYSTEMS[name], against, defender, told, curves, training))
    return found
