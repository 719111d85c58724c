"""What PPG learns from and is measured on: exchanges of persona corpora, cut so that evaluated personas are new.

Synthetic-Persona-Chat's validation file has the very personas of PersonaChat's, and a Multi-Session Chat record
`valid_N` goes on from PersonaChat's validation dialogue N, its personas in other words. So a share of PersonaChat's
validation personas is held out: dialogues between two of them are the evaluation set, and no training dialogue has a
sentence of them or goes on from a dialogue that has one. Where one of two people is held out, the other's responses
serve the critics, which read no dialogue. What they all start from, the pocket model and the critics'
encoder, was trained on these two files whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import bm25s
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from agents.exchanges import Exchange
from dialog_envs import corpora
from dialog_envs.dialogue import Dialogue
from dialog_envs.scenarios import AGENT, PARTNER
from reward_models.persona_training import sentences, traits

TRAINING = (("msc", "valid"), ("synthetic_persona_chat", "valid"), ("personachat", "train"))
EVALUATION = ("personachat", "valid")
SITUATIONS = ("empatheticdialogues", "train")  # what is told and heard of them, for the critics
SESSIONS = "msc/valid"  # goes on from dialogues of the evaluation file
SPLIT_SEED = 2022
TRAITS = 5  # sentences of a persona, at most
T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """Dialogues by what they are for.

    Attributes:
        training: by corpus.
        one_sided: by corpus, its dialogues in which one person is held out, whose persona is taken away.
        tuning: a part of the training files that is kept aside; what is looked at while training.
        evaluation: PersonaChat's validation dialogues between held-out personas.
        left_out: by corpus, how many dialogues are not in `training`, `tuning` or `evaluation`.
        people: sentence of PersonaChat's validation personas (see `traits`) -> number of the person.
        root: folder of the official corpus files.
    """

    training: Mapping[str, Sequence[Dialogue]]
    one_sided: Mapping[str, Sequence[Dialogue]]
    tuning: Sequence[Dialogue]
    evaluation: Sequence[Dialogue]
    left_out: Mapping[str, int]
    people: Mapping[str, int]
    root: Path

    @cached_property
    def situations(self) -> Sequence[Dialogue]:
        """Dialogues in which one tells of a situation, which stands in for a persona; only training reads them."""
        return list(corpora.read(SITUATIONS[0], self.root, SITUATIONS[1]))


def files(root: Path) -> list[Path]:
    """Return every corpus file that is read."""
    return [path for name, split in (*TRAINING, EVALUATION, SITUATIONS) for path in corpora.files(name, root, split)]


def read_parts(root: Path, held_out: float, tuning: float = 0.05) -> Parts:
    """Read the corpora below `root`.

    Args:
        root: folder of the official corpus files.
        held_out: share of PersonaChat's validation personas that training never sees, in [0, 1]; with 0 all validation
            dialogues are evaluated on, and their personas are trained on.
        tuning: share of the training dialogues that is kept aside, in [0, 1).

    Raises:
        ValueError: a share is out of range, or nothing is left of a part.
        FileNotFoundError: an official file is missing.
    """
    if not 0 <= held_out <= 1 or not 0 <= tuning < 1:
        raise ValueError(f"held_out is {held_out} and tuning {tuning}, expected shares in [0, 1] and [0, 1)")
    valid = list(corpora.read(EVALUATION[0], root, EVALUATION[1]))
    read = {f"{name}/{split}": list(corpora.read(name, root, split)) for name, split in TRAINING}
    people = people_of(valid)
    hidden = hidden_traits(people, held_out)
    evaluation = [dialogue for dialogue in valid if not held_out or dialogue_traits(dialogue) <= hidden]
    shown = {name: [speaker_traits(dialogue) for dialogue in dialogues] for name, dialogues in read.items()}
    for seen, number in zip(shown[SESSIONS], session_origins(root, len(valid)), strict=True):
        for speaker, origin in zip(seen, speaker_traits(valid[number]).values(), strict=True):  # in the same order
            seen[speaker] |= origin
    kept, one_sided = ({name: [] for name in read} for _ in range(2))
    for name, dialogues in read.items():
        for dialogue, seen in zip(dialogues, shown[name], strict=True):
            known = {s: text for s, text in dialogue.situations.items() if not seen[s] & hidden}
            if len(known) == len(seen):
                kept[name].append(dialogue)
            elif known:
                one_sided[name].append(replace(dialogue, situations=known))
    if not evaluation or not all(kept.values()):
        sizes = {name: len(dialogues) for name, dialogues in kept.items()}
        raise ValueError(f"held_out {held_out} leaves {len(evaluation)} dialogues to evaluate on, {sizes} to train on")
    rng = np.random.default_rng(SPLIT_SEED)
    training, aside = {}, []
    for name, dialogues in kept.items():
        tuned = rng.random(len(dialogues)) < tuning
        dialogues = shortened(dialogues)
        training[name] = [dialogue for dialogue, is_tuned in zip(dialogues, tuned, strict=True) if not is_tuned]
        aside += [dialogue for dialogue, is_tuned in zip(dialogues, tuned, strict=True) if is_tuned]
    left_out = {"/".join(EVALUATION): len(valid) - len(evaluation)}
    left_out |= {name: len(dialogues) - len(kept[name]) for name, dialogues in read.items()}
    one_sided = {name: shortened(dialogues) for name, dialogues in one_sided.items()}
    return Parts(training, one_sided, aside, evaluation, left_out, people, root)


def session_origins(root: Path, count: int) -> list[int]:
    """Return which of PersonaChat's `count` validation dialogues each Multi-Session Chat record goes on from.

    Raises:
        ValueError: a record's id is not `valid_N` with such a number.
    """
    found = []
    for path in corpora.files("msc", root, "valid"):
        for record in json.loads(path.read_text(encoding="utf-8")):
            match = re.fullmatch(r"valid_(\d+)", str(record.get("id")))
            if match is None or int(match[1]) >= count:
                raise ValueError(f"{path}: a record has id {record.get('id')!r}, expected valid_N with N below {count}")
            found.append(int(match[1]))
    return found


def people_of(valid: Sequence[Dialogue]) -> dict[str, int]:
    """Return sentence -> number of the person.

    Personas of one person have sentences in common (a dialogue shows four or five of them), so a person is all
    sentences that are linked by standing in one persona.
    """
    known = sorted(set().union(*map(dialogue_traits, valid)))
    place = {trait: i for i, trait in enumerate(known)}
    personas = [sorted(traits(text)) for dialogue in valid for text in dialogue.situations.values()]
    rows, columns = np.array([(place[persona[0]], place[t]) for persona in personas for t in persona]).T
    links = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(known), len(known)))
    person = connected_components(links, directed=False)[1]
    return dict(zip(known, person.tolist(), strict=True))


def hidden_traits(people: Mapping[str, int], share: float) -> set[str]:
    """Return the sentences of a share of the people, chosen at random but always alike."""
    count = max(people.values()) + 1
    chosen = set(np.random.default_rng(SPLIT_SEED).permutation(count)[: round(share * count)].tolist())
    return {trait for trait, person in people.items() if person in chosen}


def speaker_traits(dialogue: Dialogue) -> dict[str, set[str]]:
    """Return speaker -> the sentences of the persona (see `traits`)."""
    return {speaker: traits(text) for speaker, text in dialogue.situations.items()}


def dialogue_traits(dialogue: Dialogue) -> set[str]:
    """Return the sentences of both personas (see `traits`)."""
    return set().union(*speaker_traits(dialogue).values())


def exchanges(dialogues: Iterable[Dialogue], context_turns: int, exactly: int | None = None) -> list[Exchange]:
    """Return every place at which a speaker with a persona answers the other, speakers named as in the environments.

    Args:
        dialogues: of two speakers.
        context_turns: most turns before the response that are kept, the latest ones.
        exactly: only responses with so many turns before them in the dialogue (cold start).
    """
    found = []
    for dialogue in dialogues:
        for place in range(1, len(dialogue.turns)) if exactly is None else (exactly,):
            if place >= len(dialogue.turns):
                continue
            turn, before = dialogue.turns[place], dialogue.turns[place - 1]
            if turn.speaker == before.speaker or not dialogue.situations.get(turn.speaker):
                continue
            names = {turn.speaker: AGENT, before.speaker: PARTNER}
            said = dialogue.turns[max(0, place - context_turns) : place]
            situations = {names[s]: text for s, text in dialogue.situations.items() if s in names}
            history = tuple(replace(t, speaker=names[t.speaker]) for t in said)
            found.append(Exchange(replace(dialogue, turns=history, situations=situations), AGENT, PARTNER, turn.text))
    return found


def sample(found: Sequence[T], count: int, seed: int) -> list[T]:
    """Return `count` of them at random, or all, in their order."""
    chosen = np.random.default_rng(seed).permutation(len(found))[:count]
    return [found[i] for i in sorted(chosen)]


def groups(found: Sequence[Exchange], people: Mapping[str, int]) -> np.ndarray:
    """Return `(N, 2)` who responds in each exchange, and to whom: those of one person are not independent."""
    return np.array([[person_of(e.persona, people), person_of(e.partner_persona, people)] for e in found])


def person_of(persona: str, people: Mapping[str, int]) -> int:
    """Return the number of the person that a persona, one sentence or more, is of."""
    return people[min(traits(persona))]


class TraitRanker:
    """Finds the traits of a persona that some text is about, by BM25 over the traits of all personas.

    Args:
        personas: whose sentences make the index.
    """

    def __init__(self, personas: Iterable[str]) -> None:
        known = sorted({trait for persona in personas for trait in sentences(persona)})
        self.place = {trait: i for i, trait in enumerate(known)}
        self.index = bm25s.BM25()
        self.index.index(_words(known), show_progress=False)

    def best(self, persona: str, said: str, count: int) -> str:
        """Return a persona's best traits, in its own order; ties go to the earlier ones."""
        own, words = sentences(persona), _words([said])[0]
        scores = self.index.get_scores(words) if words else np.zeros(len(self.place))
        order = sorted(range(len(own)), key=lambda i: -scores[self.place[own[i]]])[:count]
        return " ".join(own[i] for i in sorted(order))

    def top(self, exchange: Exchange, count: int = 3) -> str:
        """Return the partner's traits that the dialogue before the response is most about."""
        said = " ".join(turn.text for turn in exchange.dialogue.turns)
        return self.best(exchange.partner_persona, said, count)


def shortened(dialogues: Sequence[Dialogue], longest: int = TRAITS) -> list[Dialogue]:
    """Return dialogues in which no persona has more sentences than PersonaChat's: those that are talked about stay.

    Multi-Session Chat's personas grow from session to session, up to thirty sentences.
    """
    if not dialogues:
        return []
    ranker = TraitRanker(text for dialogue in dialogues for text in dialogue.situations.values())
    found = []
    for dialogue in dialogues:
        long = {s: text for s, text in dialogue.situations.items() if len(sentences(text)) > longest}
        if long:
            said = " ".join(turn.text for turn in dialogue.turns)
            short = {speaker: ranker.best(text, said, longest) for speaker, text in long.items()}
            dialogue = replace(dialogue, situations={**dialogue.situations, **short})
        found.append(dialogue)
    return found


def _words(texts: Sequence[str]) -> list[list[str]]:
    return bm25s.tokenize(list(texts), stopwords="en", return_ids=False, show_progress=False)
