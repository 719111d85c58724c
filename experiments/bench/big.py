"""A model of 1B to 8B parameters, its weights random, on a GPU: turns and tokens per second, memory, and the floor."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dialog_envs.lm.frozen_lm import FrozenLM
from dialog_envs.lm.loading import DTYPES, check_device
from dialog_envs.names import look_up
from experiments.bench import show
from experiments.bench.steps import (
    begin,
    full_length,
    gemm_floor,
    gemm_rate,
    make_core,
    parameters,
    random_lm,
    timed,
    token_counts,
)
from experiments.run_folder import ResultRow, open_run, write_results
from experiments.statistics import mean_ci95


@dataclass(frozen=True)
class Config:
    """Measure steps of a big model. Speed hangs on its shape and not on its weights, so nothing is downloaded."""

    out: Path = Path("runs/bench_big")
    """Run folder."""
    size: str = "1B"
    """`1B`, `3B` or `8B`: the shapes of Llama 3; smaller ones as in `bench table`."""
    device: str = "cuda"
    """Where it lies."""
    dtype: str = "bfloat16"
    """Of weights and arithmetic: `float32`, `bfloat16` or `float16`."""
    compile: bool = False
    """Run the layers through `torch.compile`."""
    rows: tuple[int, ...] = (1, 16, 64)
    """Dialogues that step together."""
    position: str = "start"
    """Where the prefix stands."""
    history_tokens: int = 512
    """Length of the agent's prompt at the measured step."""
    reply_tokens: int = 64
    """Length of every reply."""
    repeats: int = 3
    """Measured steps a cell."""
    seed: int = 0
    """Of weights, dialogues and actions."""


def run(config: Config) -> Path:
    """Measure, print and write the rows; return the run folder.

    Raises:
        ValueError: the device is not there (a GPU is missing, by name), or a size or type is unknown.
    """
    check_device(config.device)
    look_up("dtype", config.dtype, {name: name for name in DTYPES})
    out = open_run(config.out, "bench big", config)
    lm = random_lm(config.size, config.device, config.dtype, config.seed)
    if config.compile:
        lm.model.base_model.compile(dynamic=True)
    rate = gemm_rate(lm)
    found = [
        ResultRow(config.size, "parameters_billion", sum(parameters(lm)) / 1e9, None, 1, 1),
        ResultRow("machine", "gemm_tflops", rate / 1e12, None, 1, 1),
    ]
    with full_length(lm):
        for rows in config.rows:
            found += _measured(config, lm, rows, rate)
    write_results(out, found)
    show(found)
    return out


def _measured(config: Config, lm: FrozenLM, rows: int, rate: float) -> list[ResultRow]:
    core = make_core(lm, rows, config.position, config.reply_tokens)
    seconds = []
    if lm.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(lm.device)
    for repeat in range(config.repeats + 1):  # the first warms up
        actions = begin(core, lm, config.history_tokens, config.reply_tokens, (config.seed, repeat))
        dialogues = [state.dialogue for state in core.states]
        seconds.append(timed(core.step, actions))
        floor = gemm_floor(lm, token_counts(lm, core, dialogues, config.reply_tokens), rows, rate)
    times = np.array(seconds[1:])
    metrics = {
        "turns_per_second": rows / times,
        "reply_tokens_per_second": 2 * rows * config.reply_tokens / times,
        "step_over_gemm_floor": times / floor,
    }
    name = f"{config.size} {config.dtype} {rows} rows"
    found = [ResultRow(name, metric, *mean_ci95(values), len(times), 1) for metric, values in metrics.items()]
    if lm.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(lm.device) / 2**30
        found.append(ResultRow(name, "peak_memory_gib", peak, None, 1, 1))
    return found
