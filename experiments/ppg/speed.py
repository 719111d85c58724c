"""Exchanges a second: a batched rollout against one exchange at a time through `transformers`' own `generate`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from agents.exchanges import Draws, Exchange, roll_out
from dialog_envs.lm.decoding import Sampling
from dialog_envs.lm.prompt import Prompt
from dialog_envs.speakers.ppg import Generator, PersonasGenerator, ResponseGenerator
from experiments.run_folder import ResultRow
from experiments.statistics import mean_ci95

BATCHED, SINGLE = "batched rollout", "one at a time, generate with batch 1"


@dataclass(frozen=True)
class Speed:
    """How fast exchanges are generated; every text has its full length, so that both ways draw as many tokens."""

    exchanges: int = 128
    """Exchanges of a batched rollout."""
    single: int = 6
    """Exchanges of the one-at-a-time pattern (its rate does not depend on their number)."""
    repeats: int = 5
    """Measurements of each way, in turn, behind one that warms up."""
    draws: Draws = field(default_factory=Draws)
    """Lengths of personas and responses."""


def measure(lm: str, exchanges: Sequence[Exchange], config: Speed, device: str = "cpu") -> list[ResultRow]:
    """Return the exchanges a second of both ways, and how many times as fast the first is.

    Raises:
        ValueError: there are fewer exchanges than a rollout takes.
    """
    if len(exchanges) < config.exchanges:
        raise ValueError(f"{len(exchanges)} exchanges, expected {config.exchanges} or more for a rollout")
    parts = PersonasGenerator.from_pretrained(lm, device), ResponseGenerator.from_pretrained(lm, device)
    for part in parts:
        part.requires_grad_(False)
        part.lm.stop_ids = np.zeros(0, dtype=np.int64)
    ways = {BATCHED: (_together, exchanges[: config.exchanges]), SINGLE: (_one_by_one, exchanges[: config.single])}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(config.repeats + 1):
        for name, (way, some) in ways.items():
            begun = time.perf_counter()
            way(*parts, some, config.draws)
            if repeat:
                rates[name].append(len(some) / (time.perf_counter() - begun))
    times = np.array(rates[BATCHED]) / rates[SINGLE]
    rows = [ResultRow(name, "exchanges_per_second", *mean_ci95(found), len(found), 1) for name, found in rates.items()]
    return [*rows, ResultRow(BATCHED, "times_as_fast", *mean_ci95(times), len(times), 1)]


def _together(
    personas: PersonasGenerator, response: ResponseGenerator, exchanges: Sequence[Exchange], draws: Draws
) -> None:
    roll_out(personas, response, exchanges, [(row,) for row in range(len(exchanges))], draws)


def _one_by_one(
    personas: PersonasGenerator, response: ResponseGenerator, exchanges: Sequence[Exchange], draws: Draws
) -> None:
    for exchange in exchanges:
        where = [exchange.dialogue], [exchange.speaker]
        written = _generate(personas, personas.prompts(*where)[0], draws.persona)
        _generate(response, response.prompts(*where, [written])[0], draws.response)


@torch.no_grad()
def _generate(generator: Generator, prompt: Prompt, sampling: Sampling) -> str:
    """Return a text by the model's own `generate`."""
    ids = torch.tensor([prompt.ids], device=generator.lm.device)
    count = sampling.max_new_tokens
    drawn = generator.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        temperature=sampling.temperature,
        top_k=0,
        min_p=sampling.min_p,
        max_new_tokens=count,
        min_new_tokens=count,
        pad_token_id=generator.end,
    )
    return generator.decode(drawn[:, ids.shape[1] :].tolist())[0]
