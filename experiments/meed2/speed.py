"""How fast beam search is in a batch: against one dialogue at a time, and against the paper's published code.

The published search (predict.py of github.com/yuboxie/meed2) takes one dialogue at a time, reads it once, and runs all
that every hypothesis has written through the decoder anew at each token. Speed hangs on sizes alone, so the weights are
random.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dialog_envs.speakers.beam import Beams, beam_search
from dialog_envs.speakers.meed2_model import POCKET_RESPONDER, Context, MEED2Config, Responder, Writer
from experiments.run_folder import ResultRow, open_run, write_results
from experiments.statistics import mean_ci95

BEGIN, END = 1, 2


@dataclass(frozen=True)
class Config:
    """Search replies of random contexts in three ways; run nothing else meanwhile."""

    out: Path = Path("runs/meed2_speed")
    """Run folder."""
    responder: MEED2Config = POCKET_RESPONDER
    """Size of the encoder-decoder."""
    vocab_size: int = 6144
    """Subwords."""
    dialogues: int = 16
    """Dialogues of the batch."""
    tokens: int = 60
    """Tokens of a dialogue."""
    beams: Beams = field(default_factory=Beams)
    """Width and length of the search."""
    repeats: int = 3
    """Times that each way is measured."""
    threads: int = 2
    """CPU threads."""
    device: str = "cpu"
    """Where the models run, as torch names it."""


def run(config: Config) -> Path:
    """Measure, print and write seconds a dialogue and ratios; return the run folder."""
    torch.set_num_threads(config.threads)
    out = open_run(config.out, "meed2 speed", config)
    torch.manual_seed(0)
    responder = Responder(config.responder, config.vocab_size).to(config.device).eval()
    ids = torch.randint(5, config.vocab_size, (config.dialogues, config.tokens))
    context = Context(ids, ids % 41, ids % 2, torch.ones_like(ids, dtype=torch.bool)).to(torch.device(config.device))
    ways = {"batch": batch, "one_at_a_time": one_at_a_time, "published": published}
    times = {name: [] for name in ways}
    for way in ways.values():  # the first time is slower
        way(responder, context, config.beams)
    for _ in range(config.repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way(responder, context, config.beams)
            times[name].append((time.perf_counter() - began) / config.dialogues)
    rows = [
        ResultRow(name, "seconds_a_dialogue", *mean_ci95(values), config.dialogues * config.repeats, 1)
        for name, values in times.items()
    ]
    for name in ("one_at_a_time", "published"):
        ratios = np.array(times[name]) / np.array(times["batch"])
        rows.append(ResultRow("batch", f"times_as_fast_as_{name}", *mean_ci95(ratios), config.repeats, 1))
    write_results(out, rows)
    for row in rows:
        print(f"{row.system:<15}{row.metric:<34}{row.value:8.3f} +- {row.ci95:.3f}")
    return out


def batch(responder: Responder, context: Context, beams: Beams) -> list[list[int]]:
    """Return the best reply of each dialogue, all searched together."""
    return _best(lambda some: Writer(responder, some, some.emotions[:, 0]), context, beams)


def one_at_a_time(responder: Responder, context: Context, beams: Beams) -> list[list[int]]:
    """Return the same, a dialogue after the other."""
    return [reply for one in _singles(context) for reply in batch(responder, one, beams)]


def published(responder: Responder, context: Context, beams: Beams) -> list[list[int]]:
    """Return the same as the published code does it: a dialogue after the other, each read once, and nothing that the
    decoder made kept from step to step."""

    def writer(one: Context) -> Callable[[Tensor, Tensor | None], Tensor]:
        seen, said = responder.read(one), []

        def step(tokens: Tensor, parents: Tensor | None) -> Tensor:
            kept = said.pop()[parents[0]] if parents is not None else torch.zeros(1, 0, dtype=torch.long)
            said.append(torch.cat([kept, tokens.T], 1))
            width = tokens.shape[1]
            read, mask = seen.expand(width, -1, -1), one.mask.expand(width, -1)
            emotions = one.emotions[:, 0].expand(width)
            return responder.words(responder.decode(read, mask, said[0].to(seen.device), emotions))[:, -1][None]

        return step

    return [reply for one in _singles(context) for reply in _best(writer, one, beams)]


@torch.no_grad()
def _best(writer: Callable[[Context], Callable], context: Context, beams: Beams) -> list[list[int]]:
    found = beam_search(writer(context), len(context.ids), BEGIN, END, beams)
    return [hypotheses[0][0] for hypotheses in found]


def _singles(context: Context) -> list[Context]:
    return [Context(*(part[row : row + 1] for part in context)) for row in range(len(context.ids))]
