"""The supervised start: each generator learns by maximum likelihood what the systems of the comparison need of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch

from agents.exchanges import Exchange
from dialog_envs.lm.prompt import Prompt
from dialog_envs.speakers.ppg import Generator, PersonasGenerator, ResponseGenerator, personas_view
from experiments import fitting
from experiments.fitting import batches_of
from experiments.ppg.data import TraitRanker
from experiments.run_folder import write_json
from reward_models.precision import training_precision

Kind = Literal["personas", "none", "gold", "top3", "multitask"]
KINDS: dict[str, str] = {
    "personas": "writes the partner's persona, P(p | s, c)",
    "none": "responds without the partner's persona",
    "gold": "responds with all of the partner's true persona",
    "top3": "responds with the three traits of it that BM25 ranks highest",
    "multitask": "responds without it, and learns to write it as a second task",
}
CHECKPOINT, RECORD = "checkpoint.safetensors", "training.json"


@dataclass(frozen=True)
class Supervision:
    """How a generator is trained; the paper: Adam at 5e-4, 2 epochs."""

    exchanges: int = 4000
    """Exchanges of the training part that a generator learns from."""
    longest: int = 288
    """Texts that are longer with their prompts, in tokens, are left out."""
    epochs: int = 2
    """Times through them."""
    batch_size: int = 32
    """Texts a step."""
    learning_rate: float = 5e-4
    """Peak rate of Adam; it rises over a twentieth of the steps and then falls to 0 in a straight line."""
    clip: float = 1.0
    """Longest gradient."""
    checkpoint_every: int = 50
    """Steps between checkpoints."""
    bf16: bool = True
    """Compute in bfloat16 where that loses nothing."""


class Example(NamedTuple):
    """A prompt and the ids that the generator is to write behind it."""

    prompt: Prompt
    ids: Sequence[int]


def generator_class(kind: str) -> type[Generator]:
    """Return the class of a generator that is trained this way."""
    return PersonasGenerator if kind == "personas" else ResponseGenerator


def partner_personas(kind: str, exchanges: Sequence[Exchange], ranker: TraitRanker) -> list[str | None]:
    """Return what a response generator is told of the partner in each exchange."""
    if kind == "gold":
        return [exchange.partner_persona or None for exchange in exchanges]
    if kind == "top3":
        return [ranker.top(exchange) or None for exchange in exchanges]
    return [None] * len(exchanges)


def examples(kind: str, generator: Generator, exchanges: Sequence[Exchange], ranker: TraitRanker) -> list[Example]:
    """Return what a generator learns from; a persona is learned where it is known."""
    dialogues, speakers = [e.dialogue for e in exchanges], [e.speaker for e in exchanges]
    found: list[Example] = []
    if kind in ("personas", "multitask"):
        known = [e for e in exchanges if e.partner_persona]
        views = [personas_view(e.dialogue, e.speaker) for e in known]
        prompts = generator.lm.prompts.render_batch(views, [e.speaker for e in known])
        found += map(Example, prompts, generator.encode([e.partner_persona for e in known]))
    if kind != "personas":
        prompts = generator.prompts(dialogues, speakers, partner_personas(kind, exchanges, ranker))
        found += map(Example, prompts, generator.encode([e.response for e in exchanges]))
    return found


def train(
    kind: str,
    lm: str,
    exchanges: Sequence[Exchange],
    ranker: TraitRanker,
    config: Supervision,
    seed: int,
    folder: Path,
    device: str = "cpu",
    progress: bool = True,
) -> Path:
    """Train a generator, or go on training, and save it in `folder`; nothing is done where that is done already."""
    if (folder / RECORD).exists():
        return folder
    generator = generator_class(kind).from_pretrained(lm, device)
    data = [e for e in examples(kind, generator, exchanges, ranker) if len(e.prompt.ids) + len(e.ids) <= config.longest]
    losses = fit(generator, data, config, seed, folder, f"{kind}, seed {seed}" if progress else None)
    generator.save_pretrained(folder)
    write_json(folder / RECORD, {"kind": kind, "seed": seed, "config": asdict(config), "loss": losses})
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return folder


def load(folder: Path, device: str = "cpu") -> Generator:
    """Return the generator that `train` saved."""
    kind = json.loads((folder / RECORD).read_text())["kind"]
    return generator_class(kind).from_pretrained(folder, device).eval()


def fit(
    generator: Generator, data: Sequence[Example], config: Supervision, seed: int, folder: Path, label: str | None
) -> list[float]:
    """Minimise the mean negative log-likelihood a token, as `fitting.fit`; return each step's, in nats."""

    def loss_of(batch: np.ndarray) -> torch.Tensor:
        few = [data[i] for i in batch]
        with training_precision(generator.lm.device, config.bf16):
            log_probs, mask = generator.log_prob([e.prompt for e in few], [e.ids for e in few])
        return -log_probs.sum() / mask.sum()

    optimizer = torch.optim.Adam(generator.parameters(), lr=config.learning_rate)
    batches = batches_of([len(e.prompt.ids) + len(e.ids) for e in data], config, seed)
    return fitting.fit(generator, optimizer, loss_of, batches, folder / CHECKPOINT, seed, clip=config.clip,
        every=config.checkpoint_every, label=label)  # fmt: skip
