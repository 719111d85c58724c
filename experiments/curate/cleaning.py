"""Cues to lines: markup, sounds, lyrics and advertisements go; dashes, chevrons and names become marks of a speaker."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dialog_envs.corpora.text import clean
from experiments.curate.subtitles import Cue

_MARKUP = re.compile(r"<[^<>]*>|\{[^{}]*\}")
_SOUND = re.compile(r"\[[^\[\]]*\]|\([^()]*\)")
_LYRICS = re.compile(r"[\u2669-\u266c\u00b6]|^\s*-?\s*#|#\s*$", re.MULTILINE)
_ADVERTISEMENT = re.compile(
    r"opensubtitles|subscene|addic7ed|https?:|\bwww\.|\.(?:com|org|net)\b"
    r"|\bsub(?:title)?s? ?[:=]|\bsubtitles? (?:by|edited|downloaded|provided)"
    r"|\b(?:re-?)?sync(?:ed|hroni[sz]ed)?\b.{0,20}\bby\b"
    r"|\b(?:captions?|captioned|correct(?:ed|ions)|encoded|ripped|subtitled|transcribed|translat(?:ed|ion)) by\b"
    r"|advertise your product|become (?:a )?vip member|rate this subtitle|\u00a9",
    re.IGNORECASE,
)
_CHEVRONS = re.compile(r"^\s*>{2,}\s*")
_DASH = re.compile(r"^\s*-(?![-\d])\s*")
_NAME = re.compile(r"^([A-Z][A-Z0-9 .'&#/]*[A-Z0-9.])\s*:(?:\s+|$)")


@dataclass(frozen=True)
class Line:
    """A row of a subtitle (SubRip) or a sentence (OPUS), cleaned, with the marks that stood before it.

    Attributes:
        text: the words.
        start: seconds.
        end: seconds.
        first: number of the subtitle in which it begins.
        last: number of the subtitle in which it ends.
        dash: whether a dash stood before it: one of several speakers of a subtitle.
        chevrons: whether `>>` stood before it: another speaker begins.
        name: the speaker's name where it stood before it, in capitals and with a colon.
    """

    text: str
    start: float
    end: float
    first: int
    last: int
    dash: bool = False
    chevrons: bool = False
    name: str = ""


def lines(cues: Iterable[Cue], removed: Counter[str]) -> Iterator[Line]:
    """Yield the lines of cues in order; count the cues that hold none by what they are, in `removed`."""
    for cue in cues:
        text = html.unescape(_MARKUP.sub("", cue.text))
        if not re.search(r"\w", text):
            removed["empty"] += 1
        elif _ADVERTISEMENT.search(text):
            removed["advertisement"] += 1
        elif _LYRICS.search(text):
            removed["lyrics"] += 1
        else:
            found = list(_rows(_SOUND.sub(" ", text), cue))
            if not found:
                removed["sound"] += 1
            yield from found


def _rows(text: str, cue: Cue) -> Iterator[Line]:
    chevrons, dash, name = False, False, ""
    for row in text.split("\n"):
        row, chevron = _CHEVRONS.subn("", clean(row))
        row, dashes = _DASH.subn("", row)
        match = _NAME.match(row)
        if match:
            name, row = match.group(1), row[match.end() :]
        chevrons, dash = chevrons or chevron > 0, dash or dashes > 0
        if re.search(r"\w", row):  # a mark on a row of its own belongs to the next one
            yield Line(row.strip(), cue.start, cue.end, cue.first, cue.last, dash, chevrons, name)
            chevrons, dash, name = False, False, ""
