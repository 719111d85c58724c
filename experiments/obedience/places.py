"""Places where the grammar states what comes next: its own dialogues, cut just before a partner's turn.

The acts so far give the partner's state away, so each place has a *cell* (the state and what the agent just did, e.g.
`"low/sympathy"`) with the stated probability of each outcome. The model speaks the next turn, and its outcomes are
compared with the stated ones; those of the grammar's own next turns, as many, show what chance alone leaves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType

import numpy as np

from dialog_envs.dialogue import Dialogue, Turn
from dialog_envs.scenarios import AGENT, KINDS, PARTNER, SPLITS, kind_module

ENDS = ("bye", "goodbye")  # drawn by the clock, whatever the state


CONTROLS = {  # kind -> the acts of the agent that can be chosen at any time
    "acquaintance": ("ask", "share", "react", "smalltalk"),
    "comfort": (
        "sympathy", "question_what", "question_when", "advice", "encourage", "indifference", "joke", "topic_change",
        "self_share",
    ),
    "recommend": ("ask_like", "ask_dislike", "propose", "propose_bare", "push", "indifference", "small_talk"),
    "guarded": ("blunt", "friendly", "indirect", "guess", "probe", "pressure", "small_talk"),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A dialogue of the grammar, cut just before a turn of the partner.

    Attributes:
        kind: the kind of the scenario.
        cell: the state and what the agent just did.
        stated: outcome -> the probability that the grammar states for it.
        dialogue: the turns up to the agent's, with their acts.
        own: the partner's turn that the grammar drew.
    """

    kind: str
    cell: str
    stated: Mapping[str, float]
    dialogue: Dialogue
    own: Turn


def reader(kind: str) -> ModuleType:
    """Return the module that knows what is stated for a kind, and reads its replies."""
    return import_module(f"experiments.obedience.{kind}")


def sample_places(kind: str, split: str, seed: int, dialogues: int, per_cell: int) -> dict[str, list[Place]]:
    """Return `per_cell` places for each cell that so many sampled dialogues hold that often, in the cells' order.

    A dialogue gives at most one place a cell.
    """
    rng, module = _rng(seed, kind, split, 0), kind_module(kind)
    found: dict[str, list[Place]] = defaultdict(list)
    for _ in range(dialogues):
        taken = set()
        for dialogue, own in cuts(module.sample_dialogue(rng, split), PARTNER):
            if own.act is None or own.act.startswith(ENDS):
                continue
            for cell, stated in reader(kind).stated(dialogue).items():
                if cell not in taken and len(found[cell]) < per_cell:
                    found[cell].append(Place(kind, cell, stated, dialogue, own))
                    taken.add(cell)
    return {cell: places for cell, places in sorted(found.items()) if len(places) == per_cell}


def cuts(dialogue: Dialogue, speaker: str) -> list[tuple[Dialogue, Turn]]:
    """Return a dialogue cut before each turn with which a speaker answers the other one, and that turn."""
    return [
        (replace(dialogue, turns=dialogue.turns[:i]), turn)
        for i, turn in enumerate(dialogue.turns)
        if i and turn.speaker == speaker and dialogue.turns[i - 1].speaker != speaker
    ]


def control_of(kind: str, act: str | None) -> str | None:
    """Return the name of the control for an agent's act (`"comfort/sympathy"`), None if the agent cannot choose it.

    Not chosen are greetings and farewells, repetitions, and what depends on being asked.
    """
    first, _, argument = (act or "").partition(":")
    if first not in CONTROLS[kind]:
        return None
    return f"{kind}/{first}:{argument}" if first == "ask" else f"{kind}/{first}"


def kind_of(control: str) -> str:
    """Return the kind of a control: `"comfort"` of `"comfort/sympathy"`."""
    return control.partition("/")[0]


def control_replies(dialogues: Sequence[Dialogue]) -> dict[str, list[str]]:
    """Return the agent's turns of the grammar's dialogues by the control that they are examples of."""
    replies: dict[str, list[str]] = defaultdict(list)
    for whole in dialogues:
        kind = whole.source.removeprefix("grammar/")
        for before, own in cuts(whole, AGENT):
            name = control_of(kind, own.act)
            if name is not None and not _due(before, own):
                replies[name].append(own.text)
    return dict(replies)


def sample_control_places(kind: str, split: str, seed: int, count: int) -> list[tuple[Dialogue, Turn]]:
    """Return dialogues cut where the agent chose an act that has a control, and its own turn; one a dialogue."""
    rng, module = _rng(seed, kind, split, 1), kind_module(kind)
    found: list[tuple[Dialogue, Turn]] = []
    while len(found) < count:
        options = [
            (before, own)
            for before, own in cuts(module.sample_dialogue(rng, split), AGENT)
            if control_of(kind, own.act) is not None and not _due(before, own)
        ]
        if options:
            found.append(options[int(rng.random() * len(options))])
    return found


def _due(before: Dialogue, own: Turn) -> bool:
    """Return whether the agent's turn answers a question for what it tells."""
    return own.act is not None and own.act.startswith("share:") and before.turns[-1].text.endswith("?")


def _rng(seed: int, kind: str, split: str, use: int) -> np.random.Generator:
    return np.random.default_rng([seed, list(KINDS).index(kind), SPLITS.index(split), use])
