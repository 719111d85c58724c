"""All cells and seeds of a sweep, in parallel; then the page over every sweep that is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from agents.ray_vector_env import connect
from experiments import train
from experiments.run_folder import open_run
from experiments.sweep.cells import (
    LANGUAGE,
    attempted,
    encoder_of,
    folder_of,
    make_part,
    parts_missing,
    run_cell,
)
from experiments.sweep.config import CELLS, CHANGEABLE, SWEEPS, UNSTEERED, Config
from experiments.sweep.findings import collect
from experiments.sweep.page import report

Job = tuple[str, int]  # a cell or a shared part, and its seed


def run(config: Config) -> Path:
    """Do every cell that is not done, then write rows, figures and the page; return the run folder.

    Raises:
        ValueError: cells failed; the others are done, and the page is written of what is whole.
    """
    encoder = encoder_of(config)
    files = sorted(path for path in encoder.rglob("*") if path.is_file()) if encoder else []
    out = open_run(config.out, "sweep", config, [*train.data_files(config.lm, config.up_map), *files], CHANGEABLE)
    keys = cells_of(config.name)
    parts = [(part, seed) for seed in range(config.seeds) for part in parts_missing(config, keys, seed)]
    cells = [(key, seed) for seed in range(config.seeds) for key in keys]
    threads = torch.get_num_threads()
    work(config, make_part, parts, "shared parts")  # a cell whose part failed makes it itself, or fails
    failed = work(config, run_cell, cells, config.name)
    torch.set_num_threads(threads)  # one worker runs here
    whole = [
        key for key in CELLS if all((folder_of(config, key, seed) / LANGUAGE).exists() for seed in range(config.seeds))
    ]
    if UNSTEERED in whole:
        report(config, collect(config, whole))
    if failed:
        raise ValueError(f"{len(failed)} of {len(cells)} cells failed; run it again for them: {'; '.join(failed)}")
    return out


def cells_of(name: str) -> list[str]:
    """Return the keys of a sweep's cells, or of all sweeps', the unsteered model first."""
    chosen = SWEEPS.values() if name == "all" else [SWEEPS[name]]
    return list(dict.fromkeys([UNSTEERED, *(key for sweep in chosen for key in sweep.cells)]))


def work(config: Config, task: Callable[..., None], jobs: Sequence[Job], label: str) -> list[str]:
    """Do all jobs, some at a time; return what went wrong with those that failed."""
    with tqdm(total=len(jobs), unit="cell", desc=label, disable=not jobs) as bar:
        failed = []
        for error in (_on_ray if config.backend == "ray" else _in_processes)(config, task, jobs):
            bar.update()
            failed += [error] if error else []
    return failed


def _in_processes(config: Config, task: Callable[..., None], jobs: Sequence[Job]) -> Iterator[str | None]:
    one = {"backend": "sequential"}
    many = {"backend": "loky", "n_jobs": config.workers, "inner_max_num_threads": 1}
    with parallel_config(**(one if config.workers == 1 else many)):
        yield from Parallel(return_as="generator_unordered")(delayed(attempted)(task, config, *job) for job in jobs)


def _on_ray(config: Config, task: Callable[..., None], jobs: Sequence[Job]) -> Iterator[str | None]:
    ray, began = connect(config.ray_address, config.workers)
    remote = ray.remote(attempted).options(num_cpus=1, num_gpus=config.ray_gpus)
    config = replace(config, out=config.out.resolve())  # tasks have a working folder of their own
    left, running = list(jobs), {}
    while left or running:
        while left and len(running) < config.workers:
            job = left.pop(0)
            running[remote.remote(task, config, *job)] = job
        (done,), _ = ray.wait(list(running))
        key, seed = running.pop(done)
        try:
            yield ray.get(done)
        except ray.exceptions.RayError as error:  # its process has died
            yield f"{key}, seed {seed}: {type(error).__name__}: {error}"
    if began:
        ray.shutdown()
