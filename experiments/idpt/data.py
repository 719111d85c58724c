"""What IDPT learns from and is measured on: turns with an initiative, of corpora and of the project's own grammar.

A corpus is cut by dialogues: those of the training part are in no evaluation. The paper's files are in parts already.
What the pocket models were pretrained on is another matter (`seen_note`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dialog_envs import corpora
from dialog_envs.corpora.initiative import ANNOTATED, INITIATIVES, InitiativeTurn, is_weak, read_turns
from dialog_envs.scenarios import AGENT, recommend
from dialog_envs.scenarios.phrasing import pick

SPLITS = {  # corpus -> its splits; where there is one, it is cut
    "durecdial": ("train", "valid"),
    "idpt": ("train", "valid"),
    "inspired": ("valid",),
    "p4g": ("annotated",),
}
EVALUATED = 0.4  # share of a corpus of one split that is evaluated
PRETRAINED_ON = ("inspired", "p4g")  # by the pocket models, the dialogues that are evaluated here among them
GRAMMAR = "grammar"
ACTS = {  # of the grammar's agent; what no recommender should learn (to push, to propose what clashes) is left out
    "ask_dislike": 1,
    "ask_like": 1,
    "bye": 0,
    "describe:fits": 2,
    "describe:neutral": 2,
    "indifference": 0,
    "propose:fits": 3,
    "propose:neutral": 3,
    "propose_bare": 3,
}


class Parts(NamedTuple):
    """Turns to learn from, and turns of other dialogues to evaluate on."""

    training: list[InitiativeTurn]
    evaluation: list[InitiativeTurn]


def files(names: Sequence[str], root: Path) -> list[Path]:
    """Return every corpus file that is read."""
    return [path for name in names for split in SPLITS[name] for path in corpora.files(name, root, split)]


def read_parts(name: str, root: Path, context_turns: int) -> Parts:
    """Return a corpus in two parts, each turn with at most so many turns before it."""
    found = [read_turns(name, root, split) for split in SPLITS[name]]
    if len(found) == 1:
        numbers = np.unique([turn.place[0] for turn in found[0]])
        chosen = np.random.default_rng(0).permutation(numbers)[: round(EVALUATED * len(numbers))]
        held_out = set(chosen.tolist())
        found = [[turn for turn in found[0] if (turn.place[0] in held_out) == evaluated] for evaluated in (False, True)]
    return Parts(*(shortened(turns, context_turns) for turns in found))


def shortened(turns: Sequence[InitiativeTurn], context_turns: int) -> list[InitiativeTurn]:
    """Return turns with at most so many turns before them."""
    starts = [max(0, len(turn.dialogue.turns) - context_turns) for turn in turns]
    return [
        replace(turn, dialogue=replace(turn.dialogue, turns=turn.dialogue.turns[start:]))
        for turn, start in zip(turns, starts, strict=True)
    ]


def sample(turns: Sequence[InitiativeTurn], count: int, seed: int) -> list[InitiativeTurn]:
    """Return at most so many turns in random order; a smaller sample of a seed begins a larger one."""
    return [turns[i] for i in np.random.default_rng(seed).permutation(len(turns))[:count]]


def grammar_turns(count: int, split: str, seed: int) -> list[InitiativeTurn]:
    """Return turns of generated recommendation dialogues, as many of each initiative (the acts that made them say it).

    No two are of one dialogue. Answers are rare: one turn in a hundred.
    """
    rng, turns, number = np.random.default_rng(seed), [], 0
    wanted = [count // len(INITIATIVES) + (i < count % len(INITIATIVES)) for i in range(len(INITIATIVES))]
    while any(wanted):
        dialogue = recommend.sample_dialogue(rng, split)
        places: dict[int, list[int]] = {}
        for place, turn in enumerate(dialogue.turns):
            label = _initiative(turn.act or "", turn.text) if turn.speaker == AGENT else None
            if label is not None and wanted[label]:
                places.setdefault(label, []).append(place)
        if places:
            label = max(places, key=wanted.__getitem__)
            place = pick(rng, places[label])
            before = replace(dialogue, turns=dialogue.turns[:place])
            turns.append(InitiativeTurn(GRAMMAR, (number, place), before, AGENT, dialogue.turns[place].text, label))
            wanted[label] -= 1
        number += 1
    return turns


def label_note(names: Sequence[str]) -> str:
    """Say which corpora's labels are weak, for the foot of a table."""
    weak: dict[str, list[str]] = {}
    for name in filter(is_weak, names):
        weak.setdefault(ANNOTATED[name], []).append(name)
    own = [name for name in names if name != GRAMMAR and not is_weak(name)]
    parts = [f"Weak labels, made by a rule from annotated {what}: {', '.join(of)}." for what, of in weak.items()]
    parts += [f"Labels of annotators: {', '.join(own)}."] if own else []
    parts += ["Labels of the generated dialogues' own acts: grammar."] if GRAMMAR in names else []
    return " ".join(parts)


def seen_note(models: Sequence[str], names: Sequence[str]) -> str:
    """Say of which corpora the evaluated dialogues were seen in pretraining; empty where none is known to be."""
    seen = [name for name in names if name in PRETRAINED_ON]
    if "pocket" not in models or not seen:
        return ""
    return (
        f"Seen before: the pocket models were pretrained on {', '.join(seen)}, the evaluated dialogues included. "
        "There, systems are to be compared with one another alone: no number says how they do on dialogues never seen."
    )


def label_shares(turns: Sequence[InitiativeTurn]) -> dict[str, float]:
    """Return the share of each initiative."""
    counts = np.bincount([turn.initiative for turn in turns], minlength=len(INITIATIVES))
    return dict(zip(INITIATIVES, (counts / max(1, counts.sum())).tolist(), strict=True))


def _initiative(act: str, text: str) -> int | None:
    return ("?" in text) * 1 if act == "small_talk" else ACTS.get(act)
