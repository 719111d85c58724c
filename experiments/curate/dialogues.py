"""Lines to turns to dialogues, cleaned."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from experiments.curate.cleaning import Line
from experiments.curate.speakers import SpeakerModel, gap, pairs

LONGEST = 100
"""Tokens of a turn; MEED2 reads at most 100."""
_TOKEN = re.compile(r"\w+(?:'\w+)*|[^\w\s]")
_PREVIOUSLY = re.compile(r"(?i)(?:previously|last time) on\b")


@dataclass
class Turn:
    """What one speaker says without a break, and the second at which it begins."""

    text: str
    start: float


def tokens(text: str) -> list[str]:
    """Return words and punctuation marks."""
    return _TOKEN.findall(text)


def segment(lines: Sequence[Line], speakers: SpeakerModel, longest_gap: float) -> Iterator[list[Turn]]:
    """Yield the dialogues of a file: a gap above `longest_gap` seconds cuts, another speaker begins a turn."""
    chosen = list(pairs(lines))
    turns = [Turn(line.text, line.start) for line in lines[:1]]
    for (previous, line, _), same in zip(chosen, speakers.same(chosen), strict=True):
        if gap(previous, line) > longest_gap:
            yield turns
            turns = [Turn(line.text, line.start)]
        elif same:
            turns[-1].text += " " + line.text
        else:
            turns.append(Turn(line.text, line.start))
    if turns:
        yield turns


def fault(text: str) -> str | None:
    """Return why a turn is left out, None where it is not."""
    found = [token.lower() for token in tokens(text)]
    visible = "".join(text.split())
    if len(found) > LONGEST:
        return "long"
    if sum(map(str.isalpha, visible)) < 0.6 * len(visible):
        return "few letters"
    if len(found) >= 6 and len(set(found)) < len(found) / 3:
        return "repetitive"
    return "previously on" if _PREVIOUSLY.match(text) else None


def cleaned(dialogue: Sequence[Turn], removed: Counter[str]) -> Iterator[list[Turn]]:
    """Yield what is left of a dialogue: a turn with a fault is left out and cuts it, and one turn is no dialogue.

    A turn that says what the turn before it said is left out without a cut. `removed` counts turns by why they went.
    """
    kept: list[list[Turn]] = [[]]
    said = None
    for turn in dialogue:
        why = "said twice" if turn.text == said else fault(turn.text)
        said = turn.text
        if why is None:
            kept[-1].append(turn)
            continue
        removed[why] += 1
        if why != "said twice":
            kept.append([])
    for turns in kept:
        if len(turns) > 1:
            yield turns
        elif turns:
            removed["alone"] += 1


def count(turns: Sequence[str]) -> Counter[str]:
    """Return the counts of one dialogue."""
    return Counter(dialogues=1, turns=len(turns), tokens=sum(len(tokens(turn)) for turn in turns))
