"""Who leads: turns of the system's side with one of IDPT's four initiatives (Nie et al., NAACL 2024, Table 1).

An initiative has two levels, each the user's or the system's: whose matter the dialogue is about, and who opens the
utterance (`docs/initiative_labels.md` is the guideline). Id = 2 * dialogue level + utterance level, system = 1:

| id | dialogue | utterance | the turn |
| --- | --- | --- | --- |
| 0 | user | user | reacts: thanks, agrees, comments, answers about itself |
| 1 | user | system | asks about the user's tastes, experience, wellbeing |
| 2 | system | user | says of the system's own offer what it was asked for |
| 3 | system | system | proposes, argues, asks for a decision |

The labels here are weak: a rule makes them from the corpora's annotations, of strategies or, in DuRecDial, of a turn's
goal. A hundred turns labelled by hand
(`hand_labels`) say how good the rule is. Labels of the paper's own files (corpus `idpt`) are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from dialog_envs import corpora
from dialog_envs.corpora.files import CorpusError, rows
from dialog_envs.dialogue import Dialogue, Turn

INITIATIVES = ("follow", "ask", "answer", "lead")
SYSTEMS = {"durecdial": "recommender", "idpt": "system", "inspired": "recommender", "p4g": "persuader"}
"""Corpus -> the speaker whose turns have an initiative."""
HAND_LABELS = Path(__file__).parent / "data" / "initiative_labels.csv"


class Move(NamedTuple):
    """What a strategy does: whether it serves the system's matter, and whether it asks, tells or reacts.

    To ask is the system's utterance; to react is the user's; to tell is the user's where the user has just asked.
    """

    system: bool
    does: str


ASK_USER, REACT = Move(False, "asks"), Move(False, "reacts")
ASK, TELL = Move(True, "asks"), Move(True, "tells")
STRATEGIES: dict[str, dict[str, Move]] = {  # what is not named asks with a question mark, else reacts
    "inspired": {
        **dict.fromkeys(("experience_inquiry", "opinion_inquiry", "preference_confirmation"), ASK_USER),
        **dict.fromkeys(("acknowledgment", "rephrase_preference", "similarity"), REACT),
        **dict.fromkeys(
            ("credibility", "encouragement", "offer_help", "personal_experience", "personal_opinion", "self_modeling",
             "transparency"),
            TELL,
        ),
    },
    "p4g": {
        "personal-related-inquiry": ASK_USER,
        **dict.fromkeys(
            ("acknowledgement", "closing", "comment-partner", "negative-to-inquiry", "neutral-to-inquiry",
             "positive-to-inquiry", "praise-user", "thank", "you-are-welcome"),
            REACT,
        ),
        **dict.fromkeys(
            ("ask-donate-more", "ask-donation-amount", "ask-not-donate-reason", "confirm-donation", "foot-in-the-door",
             "proposition-of-donation", "source-related-inquiry", "task-related-inquiry"),
            ASK,
        ),
        **dict.fromkeys(
            ("credibility-appeal", "donation-information", "emotion-appeal", "logical-appeal", "personal-story",
             "self-modeling"),
            TELL,
        ),
    },
    "durecdial": {
        **dict.fromkeys(("Ask about date", "Ask about weather", "Q&A", "Weather notification"), Move(False, "tells")),
        **dict.fromkeys(
            ("Food recommendation", "Movie recommendation", "Music on demand", "Music recommendation",
             "POI recommendation", "Play music"),
            TELL,
        ),
    },
}  # fmt: skip

ANNOTATED = {"durecdial": "goal types", "inspired": "strategies", "p4g": "strategies"}
"""Corpus -> which of its annotations the rule reads."""


@dataclass(frozen=True)
class InitiativeTurn:
    """A turn of the system's side.

    Attributes:
        corpus: where it is from.
        place: number of the dialogue in its split, and of the turn in the dialogue, both from 0, with consecutive turns
            of one speaker as one.
        dialogue: what was said before, and what the speakers know.
        speaker: who speaks.
        response: what is said.
        initiative: 0 to 3.
    """

    corpus: str
    place: tuple[int, int]
    dialogue: Dialogue
    speaker: str
    response: str
    initiative: int


def weak_initiative(corpus: str, said: Sequence[Turn], called_for: bool) -> int:
    """Return the initiative of a turn by the rule.

    Args:
        corpus: whose strategies `said` has as its acts.
        said: the turn's sentences. It is the system's at a level where any of them is.
        called_for: whether the turn before has a question.
    """
    moves = [_move(corpus, sentence) for sentence in said]
    opens = any(move.does == "asks" or (move.does == "tells" and not called_for) for move in moves)
    return 2 * any(move.system for move in moves) + opens


def read_turns(name: str, root: Path, split: str) -> list[InitiativeTurn]:
    """Return the system's turns of a corpus; those of `idpt` have their own labels, all others weak ones.

    Raises:
        ValueError, FileNotFoundError: as `corpora.read`; or the corpus has no initiatives.
    """
    if name not in SYSTEMS:
        raise ValueError(f"corpus {name!r} has no initiatives, expected one of {', '.join(SYSTEMS)}")
    return [
        turn
        for number, dialogue in enumerate(corpora.read(name, root, split))
        for turn in _turns(name, number, dialogue)
    ]


def is_weak(name: str) -> bool:
    """Tell whether the initiatives of a corpus are the rule's."""
    return name in STRATEGIES


def hand_labels(path: Path = HAND_LABELS) -> dict[tuple[str, str], dict[tuple[int, int], int]]:
    """Return the initiatives given by hand: (corpus, split) -> place of the turn -> initiative."""
    found: dict[tuple[str, str], dict[tuple[int, int], int]] = {}
    for line, row in rows(path, ("corpus", "split", "dialogue", "turn", "initiative")):
        numbers = [row[name] for name in ("dialogue", "turn", "initiative")]
        if not all(number.isdecimal() for number in numbers) or int(numbers[2]) >= len(INITIATIVES):
            raise CorpusError(path, line, f"a dialogue, a turn and an initiative from 0 to 3, found {numbers}")
        dialogue, turn, initiative = map(int, numbers)
        found.setdefault((row["corpus"], row["split"]), {})[dialogue, turn] = initiative
    return found


def _turns(name: str, number: int, dialogue: Dialogue) -> Iterator[InitiativeTurn]:
    before = replace(dialogue, turns=())
    for place, (speaker, group) in enumerate(groupby(dialogue.turns, key=lambda turn: turn.speaker)):
        said = list(group)
        text = " ".join(turn.text for turn in said)
        if speaker == SYSTEMS[name]:
            if is_weak(name):
                asked = bool(before.turns) and "?" in before.turns[-1].text
                label = weak_initiative(name, said, asked) if any(turn.act for turn in said) else None
            else:
                label = next((int(turn.act) for turn in said if turn.act), None)
            if label is not None:
                yield InitiativeTurn(name, (number, place), before, speaker, text, label)
        before = before.said(speaker, text)


def _move(corpus: str, sentence: Turn) -> Move:
    return STRATEGIES[corpus].get(sentence.act or "", ASK_USER if "?" in sentence.text else REACT)
