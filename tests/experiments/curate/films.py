"""Subtitle files that the tests write, in their own words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

SAID = (
    "Did you lock the door?", "I thought you had done it.", "We should go back, then.", "It is raining again.",
    "Where is my umbrella?", "You left it on the train.", "I am so tired of this.", "Come in and sit down.",
    "What did the doctor say?", "Nothing that I wanted to hear.", "I'm sorry, my dear.", "Is there any soup left?",
    "There is half a pot in the kitchen.", "Thank you, that is kind.", "My brother called this morning.",
    "I was so glad to hear his voice!", "He wants to visit us in May.", "The roses will be out by then.",
)  # fmt: skip
CONTINUED = ("and that is all I know", "so I walked home alone", "because nobody had told me", "but the shop was shut")
SUBTITLE = Sequence[str]


def stamp(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02},{rest % 1000:03}"


def subrip(cues: Sequence[tuple[float, float, str]]) -> str:
    """Return a SubRip file of (start, end, text)."""
    return "".join(f"{i}\n{stamp(a)} --> {stamp(b)}\n{text}\n\n" for i, (a, b, text) in enumerate(cues, 1))


def opus(cues: Sequence[tuple[float, float, Sequence[str]]]) -> str:
    """Return OPUS XML of (start, end, sentences of words parted by blanks)."""
    parts, number = [], 0
    for i, (start, end, sentences) in enumerate(cues, 1):
        for k, sentence in enumerate(sentences):
            number += 1
            begin = f'<time id="T{i}S" value="{stamp(start)}" />' if k == 0 else ""
            stop = f'<time id="T{i}E" value="{stamp(end)}" />' if k == len(sentences) - 1 else ""
            words = "".join(f'\n<w id="{number}.{n}">{escape(w)}</w>' for n, w in enumerate(sentence.split(), 1))
            parts.append(f'<s id="{number}">{begin}{words}{stop}</s>\n')
    return f'<?xml version="1.0" encoding="utf-8"?>\n<document id="1">\n{"".join(parts)}</document>\n'


def film(seed: int, scenes: int = 12, named: bool = True) -> list[tuple[float, float, str]]:
    """Return the cues of a film: scenes 20 s apart of two people, some of whose turns go on over two cues."""
    rng = np.random.default_rng(seed)
    clock, cues = 1.0, []
    for _ in range(scenes):
        for turn, said in enumerate(rng.choice(SAID, rng.integers(3, 7), replace=False)):
            name = ("ANNA", "BEN")[turn % 2]
            rows = [str(said)]
            if rng.random() < 0.4:
                rows = [str(said).rstrip(".?!") + ",", str(rng.choice(CONTINUED)) + "."]
            for row in rows:
                cues.append((clock, clock + 1.5, f"{name}: {row}" if named else row))
                clock += 1.6
            clock += 0.4
        clock += 20
    return cues


def write_films(folder: Path, count: int, named: bool = True) -> Path:
    """Write films `000.srt`, `001.srt`, ...; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        (folder / f"{seed:03}.srt").write_text(subrip(film(seed, named=named)), encoding="utf-8")
    return folder
