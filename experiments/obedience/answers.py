"""Replies under test: asking the model for them, and how each was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dialog_envs.dialogue import Dialogue
from dialog_envs.lm.steering import UpMapping
from dialog_envs.scenarios import AGENT, PARTNER, facts, load
from dialog_envs.speakers.lm import LMSpeaker
from experiments.obedience.config import Config
from experiments.obedience.places import Place, control_of, kind_of, reader, sample_control_places, sample_places
from reward_models.verification import asserts

FACTS, CONTROLS = "facts", "controls"  # parts beside the kinds of scenarios
GRAMMAR = "grammar, "
STEERED, UNSTEERED = "steered", "unsteered"


@dataclass(frozen=True)
class Answer:
    """One reply and how it was read.

    Attributes:
        part: the kind of scenario, `"facts"`, or `"controls"`.
        system: who replied to what: the model (`"heldout values"`, `"steered"`) or the grammar itself.
        seed: of the sampled dialogue and the reply.
        cell: the state that it replied in, or the control that it was steered with.
        heard: the turn that it replied to.
        said: the reply.
        outcome: what it was read as.
        right: whether the value that it tells is the right one; None if it tells none.
        stated: outcome -> stated probability.
        meant: what it should be read as, where the grammar said it or a control steered it.
    """

    part: str
    system: str
    seed: int
    cell: str
    heard: str
    said: str
    outcome: str
    right: bool | None = None
    stated: Mapping[str, float] = field(default_factory=dict)
    meant: str | None = None

    @property
    def as_meant(self) -> float:
        """1.0 where it was read as what was meant, else 0.0."""
        return float(self.outcome == self.meant)


def roll(
    speaker: LMSpeaker,
    dialogues: Sequence[Dialogue],
    who: str,
    seed: int,
    rows: int,
    prefixes: Tensor | None = None,
    label: str = "replies",
) -> list[str]:
    """Return the model's next turn of each dialogue; a reply depends on the seed and its place in the list alone.

    Args:
        speaker: the model.
        dialogues: N dialogues.
        who: whose turn it is.
        seed: of the sampler.
        rows: dialogues at a time; those of like length go together.
        prefixes: `(N, L, H)` that steer, or None.
        label: of the progress bar.
    """
    lengths = [sum(len(turn.text) for turn in dialogue.turns) for dialogue in dialogues]
    order = np.argsort(lengths, kind="stable")
    said = [""] * len(dialogues)
    with tqdm(total=len(dialogues), desc=label, unit="reply", leave=False) as bar:
        for first in range(0, len(order), rows):
            part = order[first : first + rows]
            generators = [np.random.default_rng([seed, int(i)]) for i in part]
            prefix = None if prefixes is None else prefixes[torch.from_numpy(part)]
            texts = speaker.speak([dialogues[i] for i in part], who, generators, prefix=prefix)
            for i, text in zip(part, texts, strict=True):
                said[i] = text
            bar.update(len(part))
    return said


def ask_for_facts(config: Config, speaker: LMSpeaker, split: str, seed: int) -> list[Answer]:
    """Ask every acquaintance scenario's partner for each of its facts, first thing."""
    rng = np.random.default_rng(seed)
    asked = [
        (scenario, target, facts.question(target.name, rng, "train"))
        for scenario in load(f"acquaintance/{split}")[: config.scenarios]
        for target in scenario.goal.targets
    ]
    dialogues = [
        Dialogue(situations={PARTNER: scenario.partner_situation}).said(PARTNER, scenario.opening).said(AGENT, question)
        for scenario, _, question in asked
    ]
    said = roll(speaker, dialogues, PARTNER, seed, config.rows, label=f"facts, {split}, {seed}")
    answers = []
    for (_, target, question), text in zip(asked, said, strict=True):
        right = any(asserts(pattern, text) for pattern in target.patterns)
        outcome = "right" if right else "not right"
        answers.append(Answer(FACTS, f"{split} values", seed, target.name, question, text, outcome, right))
    return answers


def speak_in_places(
    config: Config, speaker: LMSpeaker, kind: str, split: str, seeds: Sequence[int]
) -> tuple[list[Answer], list[Answer]]:
    """Return the model's replies in the cells that every seed has enough places of, and the grammar's own there."""
    found = {seed: sample_places(kind, split, seed, config.dialogues, config.per_cell) for seed in seeds}
    cells = sorted(set.intersection(*(set(places) for places in found.values())))
    spoken, own = [], []
    for seed, by_cell in found.items():
        places = [place for cell in cells for place in by_cell[cell]]
        said = roll(speaker, [p.dialogue for p in places], PARTNER, seed, config.rows, label=f"{kind}, {split}, {seed}")
        spoken += [_read(place, f"{split} values", seed, text) for place, text in zip(places, said, strict=True)]
        own += [_read(place, f"{GRAMMAR}{split}", seed, place.own.text, place.own.act) for place in places]
    return spoken, own


def _read(place: Place, system: str, seed: int, text: str, act: str | None = None) -> Answer:
    """Read a reply; `act` is what the grammar meant by it."""
    module = reader(place.kind)
    reading = module.read(text, place.cell, place.dialogue)
    meant = None if act is None else module.outcome_of(act, place.cell)
    heard = place.dialogue.turns[-1].text
    return Answer(
        place.kind, system, seed, place.cell, heard, text, reading.outcome, reading.right, place.stated, meant
    )


def steer(
    speaker: LMSpeaker,
    mapping: UpMapping,
    actions: np.ndarray,
    contexts: Sequence[Dialogue],
    seed: int,
    rows: int,
    label: str,
) -> list[list[str]]:
    """Return for each of the actions `(M, d')` what the agent says in each context under it."""
    steered = LMSpeaker(speaker.lm, speaker.sampling, mapping.config.position)
    with torch.no_grad():
        prefixes = mapping(torch.from_numpy(actions).to(speaker.lm.device)).repeat_interleave(len(contexts), 0)
    said = roll(steered, [*contexts] * len(actions), AGENT, seed, rows, prefixes, label)
    return [said[first : first + len(contexts)] for first in range(0, len(said), len(contexts))]


def choose_controls(
    speaker: LMSpeaker,
    mapping: UpMapping,
    candidates: Mapping[str, np.ndarray],
    contexts: int,
    seed: int = 0,
    rows: int = 64,
) -> dict[str, np.ndarray]:
    """Return of each control's candidates `(C, d')` the one that is followed most often; the first of equals.

    They are tried on contexts of the training split alone.
    """
    tried = {
        kind: [dialogue for dialogue, _ in sample_control_places(kind, "train", seed, contexts)]
        for kind in {kind_of(name) for name in candidates}
    }
    chosen = {}
    for name, actions in candidates.items():
        kind = kind_of(name)
        said = steer(speaker, mapping, actions, tried[kind], seed, rows, name)
        chosen[name] = actions[np.argmax([sum(_read_act(kind, text) == name for text in texts) for texts in said])]
    return chosen


def _read_act(kind: str, text: str) -> str:
    """Return what the agent does with these words, as controls are named."""
    return f"{kind}/{reader(kind).agent_act(text)}"


def follow_controls(
    config: Config, speaker: LMSpeaker, mapping: UpMapping, controls: Mapping[str, np.ndarray], seeds: Sequence[int]
) -> list[Answer]:
    """Let the agent speak in held-out contexts, steered by each control of their kind and unsteered.

    The answers hold the grammar's own turns in these contexts too.
    """
    answers = []
    for seed, kind in product(seeds, config.kinds):
        places = sample_control_places(kind, "heldout", seed, config.contexts)
        contexts = [dialogue for dialogue, _ in places]
        own_kind = {name: action for name, action in controls.items() if name.startswith(f"{kind}/")}
        label = f"controls, {kind}, {seed}"
        said = steer(speaker, mapping, np.stack([*own_kind.values()]), contexts, seed, config.rows, label)
        plain = roll(speaker, contexts, AGENT, seed, config.rows, label=label)
        rolled = [
            (STEERED, name, context, text)
            for name, texts in zip(own_kind, said, strict=True)
            for context, text in zip(contexts, texts, strict=True)
        ]
        rolled += [(UNSTEERED, None, context, text) for context, text in zip(contexts, plain, strict=True)]
        rolled += [(f"{GRAMMAR}heldout", control_of(kind, own.act), context, own.text) for context, own in places]
        for system, name, context, text in rolled:
            act, heard = _read_act(kind, text), context.turns[-1].text
            answers.append(Answer(CONTROLS, system, seed, name or kind, heard, text, act, meant=name))
    return answers
