"""EmpatheticIntents (Welivita & Pu, COLING 2020): EmpatheticDialogues with one of 41 emotions or intents an utterance.

The labels and their ids are those of `reward_models.emotion_labels`.

The annotated dialogues are not split, and they hold the validation dialogues of EmpatheticDialogues: they are split
here by the conversation ids of EmpatheticDialogues' own files, which must lie in the folder `empatheticdialogues`
beside this corpus. Conversations of neither file are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from dialog_envs.corpora.empatheticdialogues import conversation_ids
from dialog_envs.corpora.files import CorpusError, numbered_lines, rows, split_files, turns
from dialog_envs.corpora.text import clean
from dialog_envs.dialogue import Dialogue
from reward_models.emotion_labels import EMOTIONS, LABELS

_KNOWN = frozenset(LABELS)
LICENCE = "derived from CC BY-NC 4.0"
_ANNOTATED = tuple(f"empatheticdialogues_annotated/{emotion}.csv" for emotion in EMOTIONS)
SPLITS = {split: (*_ANNOTATED, f"../empatheticdialogues/{split}.csv") for split in ("train", "valid")}
LINE_SPLITS = {split: (f"train_data/{split}.txt",) for split in ("train", "valid")}
_COLUMNS = ("Dialog_ID", "Type", "Actor", "Text", "Label")
_SEPARATOR = " <SEP> "


def read(folder: Path, split: str) -> Iterator[Dialogue]:
    """Yield annotated dialogues: every turn's act is one of `LABELS`, the dialogue's label is its emotion."""
    *annotated, official = split_files(folder, split, SPLITS)
    return (dialogue for path in annotated for dialogue in _dialogues(path, official))


def read_labelled(folder: Path, split: str) -> Iterator[tuple[str, int]]:
    """Yield (text, id into `LABELS`) of the release's classifier data."""
    (path,) = split_files(folder, split, LINE_SPLITS)
    return _labelled(path)


def _labelled(path: Path) -> Iterator[tuple[str, int]]:
    for number, line in numbered_lines(path):
        label, separator, text = line.partition(_SEPARATOR)
        if not separator or not label.isdecimal() or int(label) >= len(LABELS):
            raise CorpusError(path, number, f"a label from 0 to {len(LABELS) - 1}, {_SEPARATOR!r} and text")
        yield clean(text), int(label)


def _dialogues(path: Path, official: Path) -> Iterator[Dialogue]:
    wanted = conversation_ids(official)
    for name, group in groupby(rows(path, _COLUMNS), key=lambda numbered: numbered[1]["Dialog_ID"]):
        said: list[tuple[str, str, str | None]] = []
        situation = ""
        for number, row in group:
            if row["Label"].lower() not in _KNOWN:
                raise CorpusError(path, number, f"one of the {len(LABELS)} labels, found {row['Label']!r}")
            if row["Type"] == "situation":
                situation = row["Text"]
            elif row["Actor"] in ("speaker", "listener"):
                said.append((row["Actor"], row["Text"], row["Label"].lower()))
            else:
                raise CorpusError(path, number, f"Actor 'speaker' or 'listener', found {row['Actor']!r}")
        if name in wanted:
            yield Dialogue(turns(said), {"speaker": clean(situation)}, source="empathetic_intents", label=path.stem)
