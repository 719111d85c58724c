"""Turns per second against the number of Ray workers, each a batched environment with a model of its own."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.ray_vector_env import RayVectorEnv, connect
from experiments.bench import show
from experiments.run_folder import ResultRow, model_files, open_run, write_results, write_text
from experiments.statistics import mean_ci95
from experiments.train import ENV_ID


@dataclass(frozen=True)
class Config:
    """Measure steps of one worker, of two, ..., in turn; run nothing else meanwhile."""

    out: Path = Path("runs/bench_workers")
    """Run folder; `table.md` in it."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of workers to compare with the first of them."""
    rows: int = 32
    """Dialogues of each worker."""
    threads: int = 1
    """CPU threads of each worker."""
    gpus: float = 0.0
    """GPUs of each worker, or a share of one."""
    ray_address: str | None = None
    """Of a running cluster; None starts one on this machine."""
    env_id: str = ENV_ID
    """A registered environment."""
    lm: str = "pocket"
    """`pocket`, a model folder, or a Hugging Face name."""
    device: str = "cpu"
    """Where each worker's model lies."""
    up_map: str = "pca"
    """Action to prefix."""
    max_turns: int = 4
    """Agent turns a dialogue."""
    max_new_tokens: int = 24
    """Longest turn, in tokens."""
    steps: int = 4
    """Steps of all rows in one measurement."""
    repeats: int = 5
    """Measurements of each number of workers."""
    seed: int = 0
    """Of dialogues and actions."""


def run(config: Config) -> Path:
    """Measure, print and write the table; return the run folder."""
    out = open_run(config.out, "bench workers", config, model_files(config.lm))
    names = ("lm", "device", "up_map", "max_turns", "max_new_tokens")
    arguments = {name: getattr(config, name) for name in names}
    connect(config.ray_address, cpus=sum(config.workers) * config.threads)  # a waiting one costs none
    with ExitStack() as stack:
        envs = {}
        for count in config.workers:
            env = RayVectorEnv(config.env_id, count, config.rows, threads=config.threads, gpus=config.gpus, **arguments)
            envs[count] = stack.enter_context(closing(env))
            env.reset(seed=config.seed)
            env.action_space.seed(config.seed)
        rates = {count: [] for count in envs}
        for _ in range(config.repeats + 1):  # the first warms up
            for count, env in envs.items():
                start = time.perf_counter()
                for _ in range(config.steps):
                    env.step(env.action_space.sample())
                rates[count].append(config.steps * env.num_envs / (time.perf_counter() - start))
    first = np.array(rates[config.workers[0]][1:])
    found = []
    for count, values in rates.items():
        mean, ci95 = mean_ci95(values[1:])
        found.append(ResultRow(f"{count} workers", "turns_per_second", mean, ci95, config.repeats, 1))
        mean, ci95 = mean_ci95(np.array(values[1:]) / first)
        found.append(ResultRow(f"{count} workers", "times_the_first", mean, ci95, config.repeats, 1))
    write_results(out, found)
    write_text(out / "table.md", _table(config, found))
    show(found)
    return out


def _table(config: Config, found: list[ResultRow]) -> str:
    lines = ["| workers | dialogues | turns per second | times the first |", "| --- | --- | --- | --- |"]
    for count, rate, times in zip(config.workers, found[::2], found[1::2], strict=True):
        cells = f"{rate.value:.1f} ± {rate.ci95:.1f} | {times.value:.2f} ± {times.ci95:.2f}"
        lines.append(f"| {count} | {count * config.rows} | {cells} |")
    return "\n".join(lines) + "\n"
