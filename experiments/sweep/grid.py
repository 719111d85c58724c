"""All cells and seeds of a sweep, in parallel; then the page over every sweep that is whole."""

from __future__ import annotations

from pathlib import Path

import torch
from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from experiments import train
from experiments.run_folder import open_run
from experiments.sweep.cells import LANGUAGE, folder_of, run_cell
from experiments.sweep.config import CELLS, CHANGEABLE, SWEEPS, UNSTEERED, Config
from experiments.sweep.findings import collect
from experiments.sweep.page import report


def run(config: Config) -> Path:
    """Do every cell that is not done, then write rows, figures and the page; return the run folder."""
    out = open_run(config.out, "sweep", config, train.data_files(config.lm, config.up_map), CHANGEABLE)
    keys = cells_of(config.name)
    jobs = [(key, seed) for seed in range(config.seeds) for key in keys]
    threads = torch.get_num_threads()
    with _backend(config), tqdm(total=len(jobs), unit="cell", desc=config.name) as bar:
        work = Parallel(return_as="generator_unordered")(delayed(run_cell)(config, *job) for job in jobs)
        for _ in work:
            bar.update()
    torch.set_num_threads(threads)  # one worker runs here
    whole = [
        key for key in CELLS if all((folder_of(config, key, seed) / LANGUAGE).exists() for seed in range(config.seeds))
    ]
    report(config, collect(config, whole))
    return out


def cells_of(name: str) -> list[str]:
    """Return the keys of a sweep's cells, or of all sweeps', the unsteered model first."""
    chosen = SWEEPS.values() if name == "all" else [SWEEPS[name]]
    return list(dict.fromkeys([UNSTEERED, *(key for sweep in chosen for key in sweep.cells)]))


def _backend(config: Config) -> parallel_config:
    if config.backend == "ray":
        from ray.util.joblib import register_ray

        register_ray()
        return parallel_config(backend="ray", n_jobs=config.workers)
    if config.workers == 1:
        return parallel_config(backend="sequential")
    return parallel_config(backend="loky", n_jobs=config.workers, inner_max_num_threads=1)
