"""Training and accuracy of the persona critic: balanced pairs, whose false ones are true ones with personas swapped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from reward_models.persona_critic import PersonaCritic
from reward_models.precision import training_precision

GROUP = 4  # pairs that are made of the same two personas and responses
PUNCTUATION = re.compile(r"[^\w\s]")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class CriticTraining:
    """How a critic is trained."""

    epochs: int = 2
    """Times through the instances (the paper: 1); each pairs them anew, so that the false pairs are others."""
    batch_size: int = 64
    """Pairs a step, a multiple of 4."""
    learning_rate: float = 2e-3
    """Peak rate of the head; it falls to 0 in a straight line."""
    encoder_learning_rate: float = 1e-4
    """Peak rate of the encoder's trained layers (the paper: 5e-6, DistilBERT)."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    clip: float = 1.0
    """Longest gradient."""
    bf16: bool = False
    """Compute in bfloat16 where that loses nothing."""
    seed: int = 0
    """Of the head's weights, of who is paired with whom, the order of the pairs and dropout."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a positive number")
        if self.batch_size % GROUP:
            raise ValueError(f"batch_size is {self.batch_size}, expected a multiple of {GROUP}")


@dataclass(frozen=True)
class Pairs:
    """Labelled pairs in groups of four: (s_A, r_A), (s_B, r_B), (s_A, r_B), (s_B, r_A).

    Attributes:
        personas: N texts.
        responses: N texts.
        labels: `(N,)`, 1 where the response is of the speaker with this persona, else 0.
    """

    personas: Sequence[str]
    responses: Sequence[str]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def swapped_pairs(instances: Sequence[tuple[str, str]], seed: int | Sequence[int] = 0) -> Pairs:
    """Return balanced pairs of instances (persona, response) that are taken two by two at random.

    Of two instances A and B come (s_A, r_A), (s_B, r_B), labelled 1, and (s_A, r_B), (s_B, r_A), labelled 0. Two that
    have a sentence of their personas in common, or the same response, are left out: their swap would not be false.

    Raises:
        ValueError: nothing is left.
    """
    order = np.random.default_rng(seed).permutation(len(instances))
    personas, responses = [], []
    for a, b in zip(order[::2], order[1::2], strict=False):
        (own, said), (other, answered) = instances[a], instances[b]
        if said == answered or traits(own) & traits(other):
            continue
        personas += [own, other, own, other]
        responses += [said, answered, answered, said]
    if not personas:
        raise ValueError(f"{len(instances)} instances give no two of different personas and responses")
    return Pairs(personas, responses, np.tile([1, 1, 0, 0], len(personas) // GROUP))


def sentences(persona: str) -> list[str]:
    """Return a persona's sentences as they stand."""
    return [sentence for sentence in SENTENCE_END.split(persona.strip()) if sentence]


def traits(persona: str) -> set[str]:
    """Return a persona's sentences, in lower case and without punctuation: alike where they say the same."""
    plain = (PUNCTUATION.sub("", sentence.lower()).strip() for sentence in sentences(persona))
    return {sentence for sentence in plain if sentence}


def rightly_judged(critic: PersonaCritic, pairs: Pairs, batch_size: int = 128) -> np.ndarray:
    """Return `(N,)`, whether the critic's label of each pair is the true one; the mean is its accuracy."""
    return (critic.label(pairs.personas, pairs.responses, batch_size) > 0) == pairs.labels


def train(
    critic: PersonaCritic,
    groups: Sequence[Sequence[tuple[str, str]]],
    config: CriticTraining = CriticTraining(),
    progress: bool = False,
) -> list[float]:
    """Train the head and the encoder's top layers to tell true from swapped; return the loss of each step, in nats.

    Afterwards the critic is frozen and rounded to float16, as it is saved: what is measured is what `load` gives.

    Args:
        critic: learns.
        groups: (persona, response), each response of the speaker with this persona. Swapped is within a group, such as
            one corpus, so that no style gives a false pair away.
        config: hyper-parameters.
        progress: show a bar.

    Raises:
        ValueError: a group gives no pairs (see `swapped_pairs`).
    """
    chosen = critic.trained_parameters()
    head = [value for name, value in chosen.items() if name.startswith("head.")]
    rest = [value for name, value in chosen.items() if not name.startswith("head.")]
    rates = [{"params": head, "lr": config.learning_rate}]
    rates += [{"params": rest, "lr": config.encoder_learning_rate}] if rest else []
    optimizer = torch.optim.AdamW(rates, weight_decay=config.weight_decay)
    epochs = [
        _joined([swapped_pairs(group, (config.seed, epoch)) for group in groups]) for epoch in range(config.epochs)
    ]
    batches = [(pairs, rows) for epoch, pairs in enumerate(epochs) for rows in _batches(len(pairs), config, epoch)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / len(batches))
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        _set_trained(critic, chosen.values(), True)
        for pairs, rows in tqdm(batches, desc="critic", unit="step", disable=not progress):
            with training_precision(critic.encoder.device, config.bf16):
                logits = critic.logits([pairs.personas[i] for i in rows], [pairs.responses[i] for i in rows])
            labels = torch.from_numpy(pairs.labels[rows]).float().to(logits.device)
            loss = F.binary_cross_entropy_with_logits(logits.float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(chosen.values(), config.clip)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        _set_trained(critic, chosen.values(), False)
    for value in chosen.values():
        value.data.copy_(value.data.half())
    return losses


def _joined(parts: Sequence[Pairs]) -> Pairs:
    return Pairs(
        [persona for part in parts for persona in part.personas],
        [response for part in parts for response in part.responses],
        np.concatenate([part.labels for part in parts]),
    )


def _batches(pairs: int, config: CriticTraining, epoch: int) -> list[np.ndarray]:
    """Return the rows of each step's pairs; groups of four stay together, so that each text is encoded once for two."""
    order = np.random.default_rng((config.seed, epoch)).permutation(pairs // GROUP)
    rows = (order[:, None] * GROUP + np.arange(GROUP)).ravel()
    return [rows[first : first + config.batch_size] for first in range(0, pairs, config.batch_size)]


def _set_trained(critic: PersonaCritic, parameters: Iterable[nn.Parameter], trained: bool) -> None:
    critic.train(trained)
    for parameter in parameters:
        parameter.grad = None
        parameter.requires_grad_(trained)
