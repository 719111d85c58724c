"""Turns annotated with their initiative, as IDPT is trained on (Nie et al., NAACL 2024): 700 a corpus.

The official files (github.com/JerrryNie/Mix-Initiative-Dialogue) could not be had when this was written, and nothing
here was checked against them. The layout is the one that the paper's task needs, one JSON object a line: `knowledge` (a
string or a list of strings, may be empty), `history` (what was said before, user and system in turns, the user last),
`response`, and `initiative`, 0 to 3. Files that name their fields otherwise are brought to this form by renaming them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dialog_envs.corpora.files import CorpusError, member, numbered_lines, parse_json, split_files, strings, turns
from dialog_envs.corpora.text import clean
from dialog_envs.dialogue import Dialogue

SPLITS = {"train": ("train.jsonl",), "valid": ("valid.jsonl",)}
LICENCE = "none stated"


def read(folder: Path, split: str) -> Iterator[Dialogue]:
    """Yield a dialogue for each annotated turn, which is its last one; the initiative is that turn's act."""
    (path,) = split_files(folder, split, SPLITS)
    return _dialogues(path)


def _dialogues(path: Path) -> Iterator[Dialogue]:
    for number, line in numbered_lines(path):
        record = parse_json(path, line, dict, number)
        history = strings(record, "history", path, number)
        response = member(record, "response", str, path, number)
        initiative = record.get("initiative")
        if type(initiative) is not int or not 0 <= initiative < 4:
            raise CorpusError(path, number, f"'initiative' to be 0, 1, 2 or 3, found {initiative!r}")
        known = record.get("knowledge", "")
        known = " ".join(strings(record, "knowledge", path, number)) if isinstance(known, list) else str(known)
        speakers = ["user" if (len(history) - i) % 2 else "system" for i in range(len(history))]
        said = [*zip(speakers, history, strict=True), ("system", response, str(initiative))]
        situations = {"system": clean(known)} if known.strip() else {}
        yield Dialogue(turns(said), situations, source="idpt")
