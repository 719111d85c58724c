"""Kill a training run at random moments and go on each time: does it end as the unbroken run, bit for bit?"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from tqdm import tqdm

from agents.checkpoint import load_tree
from experiments import train
from experiments.run_folder import ResultRow, open_run, write_json, write_results

# Collected and fitted in pieces that take seconds, so that kills fall within phases: a round's buffer is saved every 32
# steps of these few rows, its fit every 250
SHORT = train.Config(seeds=1, transitions=960, steps=600, rounds=3, rows=4, evaluation_episodes=12)
KILLS = "kills.json"
SPAWN = multiprocessing.get_context("spawn")  # each attempt is a new interpreter, as after a power cut


@dataclass(frozen=True)
class Config:
    """Run `train` unbroken, then killed and resumed; on the CPU, with one number of threads, both must agree."""

    out: Path = Path("runs/resume")
    """Run folder; `unbroken` and `broken` in it, which must not be there yet."""
    kills: int = 10
    """How often the run is killed (SIGKILL); all in all it runs about twice as long as the unbroken one."""
    threads: int = 1
    """CPU threads of both."""
    seed: int = 0
    """Of the moments."""
    train: train.Config = field(default_factory=lambda: SHORT)
    """What is trained; its `out` is not used."""


def run(config: Config) -> Path:
    """Run, compare, write the rows; return the run folder.

    Raises:
        FileExistsError: there is a run in the folder already.
        ValueError: the run ended before the last kill, or ended otherwise than the unbroken one.
    """
    folders = {name: config.out / name for name in ("unbroken", "broken")}
    for folder in folders.values():
        if folder.exists():
            raise FileExistsError(f"{folder} is there already: take another folder (--out)")
    out = open_run(config.out, "resume", config)
    started, ended = _watched(config, folders["unbroken"], None)
    moments = np.random.default_rng(config.seed).uniform(0, 2 * (ended - started) / (config.kills + 1), config.kills)
    kills = []
    for number, moment in enumerate(tqdm(moments, desc="kills", unit="kill")):
        if _watched(config, folders["broken"], float(moment)) is not None:
            raise ValueError(f"the run ended before kill {number + 1} of {config.kills}: train longer, or kill it less")
        kills.append({"seconds": float(moment), **_place(folders["broken"], config.train)})
        write_json(out / KILLS, kills)
    _watched(config, folders["broken"], None)
    differing, compared = _differences(*folders.values())
    rows = [
        ResultRow("run", "kills", config.kills, None, 1, 1),
        ResultRow("run", "kills_within_a_phase", sum(0 < kill["share"] < 1 for kill in kills), None, config.kills, 1),
        ResultRow("run", "seconds_unbroken", ended - started, None, 1, 1),
        ResultRow("run", "files_compared", len(compared), None, 1, 1),
        ResultRow("run", "files_that_differ", len(differing), None, len(compared), 1),
    ]
    write_results(out, rows)
    for row in rows:
        print(f"{row.system:<6} {row.metric:<20} {row.value:8.1f}")
    if differing:
        raise ValueError(f"the broken run ended otherwise: {', '.join(differing)} differ")
    return out


def _watched(config: Config, folder: Path, moment: float | None) -> tuple[float, float] | None:
    """Train in a process of its own; return when it began to work and when it ended, or None if it was killed.

    Args:
        config: what to train.
        folder: the run's.
        moment: seconds of work after which it is killed; None: never.

    Raises:
        RuntimeError: it ended with an error.
    """
    settings = replace(config.train, out=folder)
    marker = folder.with_name(f"{folder.name}.started")
    marker.unlink(missing_ok=True)
    process = SPAWN.Process(target=_train, args=(settings, config.threads, marker))
    process.start()
    while process.is_alive() and not marker.exists():
        time.sleep(0.02)
    started = time.perf_counter()
    process.join(moment)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        return None
    if process.exitcode != 0:
        raise RuntimeError(f"the run in {folder} ended with exit status {process.exitcode}")
    return started, time.perf_counter()


def _place(folder: Path, settings: train.Config) -> dict[str, Any]:
    """Return where a kill fell: the newest state that it left, and how much of its phase that holds, in [0, 1].

    A share between the two means that the run goes on in the middle of collecting or of fitting.
    """
    states = sorted(folder.glob("**/*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    if not states:
        return {"state": None, "share": 0.0}
    tree = load_tree(states[-1])
    share = 1.0
    if "shape" in tree:  # a buffer
        share = len(tree["reward"]) / tree["shape"]["capacity"]
    elif "counters" in tree:  # Stable-Baselines3's
        share = tree["counters"]["num_timesteps"] / settings.transitions
    elif "steps" in tree:
        share = tree["steps"] / settings.steps
    return {"state": str(states[-1].relative_to(folder)), "share": min(1.0, share)}


def _train(settings: train.Config, threads: int, marker: Path) -> None:
    import torch

    torch.set_num_threads(threads)
    marker.touch()
    train.run(settings)


def _differences(one: Path, other: Path) -> tuple[list[str], list[str]]:
    """Return which files of two runs differ, and all that were compared: every checkpoint's state and every curve."""
    names = sorted({str(path.relative_to(folder)) for folder in (one, other) for path in _states(folder)})
    return [name for name in names if not _same(one / name, other / name)], names


def _states(folder: Path) -> list[Path]:
    return [*folder.glob("**/*.safetensors"), *folder.glob("**/curve.json")]


def _same(one: Path, other: Path) -> bool:
    """Return whether two files hold the same: the same bytes, or of a checkpoint the same tensors.

    What else is in a checkpoint are counts, and seconds on the clock.
    """
    if not (one.is_file() and other.is_file()):
        return False
    return one.read_bytes() == other.read_bytes() or (one.suffix != ".json" and _tensors(one) == _tensors(other))


def _tensors(path: Path) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}
