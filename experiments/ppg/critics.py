"""The critics: one gives the reward, a second is never optimised, a third learns whom a response is said to.

The first two judge whether a response belongs to its speaker's persona; they learn with different seeds: other first
weights, other false pairs, another order. The third is the paper's other pairing, only measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from agents.exchanges import Exchange
from experiments.ppg import data
from experiments.ppg.evaluation import CRITICS
from experiments.run_folder import ResultRow
from experiments.statistics import grouped_ci95
from reward_models.persona_critic import CriticConfig, PersonaCritic
from reward_models.persona_training import GROUP, CriticTraining, rightly_judged, swapped_pairs, train

PAIRINGS = ("self", "partner")  # whose persona a response is paired with: its speaker's, or the other's
LEARNS = dict.fromkeys(CRITICS, "self") | {"partner_critic": "partner"}  # critic -> pairing


@dataclass(frozen=True)
class Critics:
    """How the critics are made and trained."""

    critic: CriticConfig = field(default_factory=CriticConfig)
    """Encoder and reading; all critics have the same."""
    training: CriticTraining = field(default_factory=lambda: CriticTraining(bf16=True))
    """Optimiser and epochs; each critic's seed is one higher than the one's before."""
    responses: int = 100_000
    """Responses of each corpus that a critic learns from, at most."""


def make(
    parts: data.Parts, name: str, config: Critics, folder: Path, device: str = "cpu", progress: bool = True
) -> PersonaCritic:
    """Train a critic and save it in `folder`, or load the one that lies there."""
    if not folder.exists():
        seed = config.training.seed + list(LEARNS).index(name)
        settings = asdict(config.critic)
        critic = PersonaCritic.from_encoder(settings.pop("encoder"), seed, **settings).to(device)
        groups = [data.sample(pairs, config.responses, seed) for pairs in read(parts, LEARNS[name]).values()]
        train(critic, groups, replace(config.training, seed=seed), progress)
        critic.save(folder)
    return PersonaCritic.load(folder).to(device)


def read(parts: data.Parts, pairing: str) -> dict[str, list[tuple[str, str]]]:
    """Return what critics learn from: by corpus, pairs as of `paired`.

    The persona corpora are of few people. So situations of EmpatheticDialogues stand in for personas too, with what is
    said by who tells of them (or answers that).
    """
    found = {}
    for name, dialogues in parts.training.items():
        pairs = paired(data.exchanges([*dialogues, *parts.one_sided[name]], 1), pairing)
        if pairs:
            found[name] = pairs
    told = ((next(iter(d.situations.items())), d.turns) for d in parts.situations if d.situations)
    found["/".join(data.SITUATIONS)] = [
        (situation, turn.text)
        for (teller, situation), turns in told
        for turn in turns
        if (turn.speaker == teller) == (pairing == "self")
    ]
    return found


def paired(found: Sequence[Exchange], pairing: str) -> list[tuple[str, str]]:
    """Return responses with the persona of their speaker (`self`) or of whom they answer (`partner`), where known."""
    texts = [(e.persona if pairing == "self" else e.partner_persona, e.response) for e in found]
    return [(persona, response) for persona, response in texts if persona]


def accuracies(
    name: str, critic: PersonaCritic, found: Sequence[Exchange], people: Mapping[str, int]
) -> list[ResultRow]:
    """Return accuracy with its interval, and the share of the commonest label, of both pairings.

    Pairs with one person's persona are not independent, nor those with responses of (or to) one person.
    """
    rows = []
    for pairing in PAIRINGS:
        pairs = swapped_pairs(paired(found, pairing))
        whose = np.array([data.person_of(persona, people) for persona in pairs.personas]).reshape(-1, GROUP)
        both = np.stack((whose, whose[:, [0, 1, 1, 0]]), 2).reshape(-1, 2)
        right = rightly_judged(critic, pairs)
        rows.append(ResultRow(name, f"accuracy_{pairing}", *grouped_ci95(right, both), len(pairs), 1))
        majority = np.bincount(pairs.labels).max() / len(pairs)
        rows.append(ResultRow(name, f"majority_{pairing}", majority, None, len(pairs), 1))
    return rows
