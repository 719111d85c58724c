"""Training a set of prefixes: gamma * cross-entropy of the recogniser + alpha * loss of the responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from dialog_envs.corpora.initiative import InitiativeTurn
from dialog_envs.speakers.idpt import IDPT, IDPTConfig
from experiments import fitting
from experiments.fitting import batches_of
from experiments.run_folder import write_json
from reward_models.precision import training_precision

CHECKPOINT, RECORD = "checkpoint.safetensors", "training.json"


@dataclass(frozen=True)
class Training:
    """How prefixes and recogniser are trained; the paper: 100 epochs of batches of 4 at 8e-5, GPT-2 and BERT."""

    epochs: int = 10
    """Times through the turns."""
    batch_size: int = 8
    """Turns a step."""
    learning_rate: float = 5e-3
    """Peak rate of Adam; it rises over a twentieth of the steps and then falls to 0 in a straight line."""
    gamma: float = 1.0
    """Weight of the recogniser's cross-entropy, with `hard` attention; with `soft` attention there are no labels."""
    alpha: float = 1.0
    """Weight of the responses' loss."""
    clip: float = 1.0
    """Longest gradient."""
    checkpoint_every: int = 50
    """Steps between checkpoints."""
    bf16: bool = True
    """Compute in bfloat16 where that loses nothing."""


def train(
    turns: Sequence[InitiativeTurn],
    made_of: IDPTConfig,
    models: tuple[str, str, str],
    config: Training,
    seed: int,
    folder: Path,
    label: str | None = None,
) -> Path:
    """Train a set, or go on training, and save it in `folder`; nothing is done where that is done already.

    Args:
        turns: what it learns from.
        made_of: what it is made of.
        models: language model and encoder, by name or folder, and the device that they run on.
        config: optimiser and losses.
        seed: of the first weights and of the order.
        folder: of checkpoint, set and record.
        label: of the progress bar; None for none.
    """
    if (folder / RECORD).exists():
        return folder
    lm, encoder, device = models
    idpt = IDPT.from_scratch(made_of, lm, encoder, seed, device)
    idpt.trained_on = tuple(dict.fromkeys(turn.corpus for turn in turns))
    losses = fit(idpt, turns, config, seed, folder / CHECKPOINT, label)
    idpt.save_pretrained(folder / "model")
    write_json(folder / RECORD, {"turns": len(turns), "seed": seed, "config": asdict(config), "losses": losses})
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return folder


def fit(
    idpt: IDPT, turns: Sequence[InitiativeTurn], config: Training, seed: int, checkpoint: Path, label: str | None = None
) -> list[list[float]]:
    """Minimise the loss, as `fitting.fit`; return each step's two parts, weighted, in nats. No turn, no step."""
    supervised = idpt.config.attention == "hard"

    def loss_of(batch: np.ndarray) -> torch.Tensor:
        few = [turns[i] for i in batch]
        with training_precision(idpt.lm.device, config.bf16):
            cross_entropy, of_response = idpt.losses(
                [turn.dialogue for turn in few],
                [turn.speaker for turn in few],
                [turn.response for turn in few],
                [turn.initiative for turn in few] if supervised else None,
            )
        return torch.stack([config.gamma * cross_entropy, config.alpha * of_response])

    optimizer = torch.optim.Adam(idpt.parameters(), lr=config.learning_rate)
    lengths = [len(turn.response) + sum(len(said.text) for said in turn.dialogue.turns) for turn in turns]
    batches = batches_of(lengths, config, seed)
    return fitting.fit(idpt, optimizer, loss_of, batches, checkpoint, seed, clip=config.clip,
        every=config.checkpoint_every, label=label)  # fmt: skip
