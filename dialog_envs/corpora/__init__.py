"""Readers of official corpus files: one file and one line of the table `CORPORA` for each corpus.

Text is cleaned but keeps its case; consecutive turns of one speaker stay apart. A reader takes any folder that holds
the official files:

    for dialogue in read("msc", default_root(), "valid"):
        ...
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dialog_envs.corpora import (
    banking77,
    casino,
    dailydialog,
    dailydialogpp,
    dealornodeal,
    durecdial,
    empathetic_intents,
    empatheticdialogues,
    idpt,
    inspired,
    msc,
    mutual,
    p4g,
    personachat,
    swda,
    synthetic_persona_chat,
    topical_chat,
)
from dialog_envs.corpora.files import CorpusError, Files, split_files
from dialog_envs.dialogue import Dialogue

__all__ = ["CORPORA", "Corpus", "CorpusError", "available", "default_root", "files", "read"]

ROOT_VARIABLE = "DIALOG_ENVS_DATA"


@dataclass(frozen=True)
class Corpus:
    """A reader `(folder, split) -> dialogues`, the official files of each split, and the licence of the text."""

    reader: Callable[[Path, str], Iterator[Dialogue]]
    splits: Files
    licence: str


CORPORA: dict[str, Corpus] = {
    "banking77": Corpus(banking77.read, banking77.SPLITS, banking77.LICENCE),
    "casino": Corpus(casino.read, casino.SPLITS, casino.LICENCE),
    "dailydialog": Corpus(dailydialog.read, dailydialog.SPLITS, dailydialog.LICENCE),
    "dailydialogpp": Corpus(dailydialogpp.read, dailydialogpp.SPLITS, dailydialogpp.LICENCE),
    "dealornodeal": Corpus(dealornodeal.read, dealornodeal.SPLITS, dealornodeal.LICENCE),
    "durecdial": Corpus(durecdial.read, durecdial.SPLITS, durecdial.LICENCE),
    "empathetic_intents": Corpus(empathetic_intents.read, empathetic_intents.SPLITS, empathetic_intents.LICENCE),
    "empatheticdialogues": Corpus(empatheticdialogues.read, empatheticdialogues.SPLITS, empatheticdialogues.LICENCE),
    "idpt": Corpus(idpt.read, idpt.SPLITS, idpt.LICENCE),
    "inspired": Corpus(inspired.read, inspired.SPLITS, inspired.LICENCE),
    "msc": Corpus(msc.read, msc.SPLITS, msc.LICENCE),
    "mutual": Corpus(mutual.read, mutual.SPLITS, mutual.LICENCE),
    "p4g": Corpus(p4g.read, p4g.SPLITS, p4g.LICENCE),
    "personachat": Corpus(personachat.read, personachat.SPLITS, personachat.LICENCE),
    "swda": Corpus(swda.read, swda.SPLITS, swda.LICENCE),
    "synthetic_persona_chat": Corpus(
        synthetic_persona_chat.read, synthetic_persona_chat.SPLITS, synthetic_persona_chat.LICENCE
    ),
    "topical_chat": Corpus(topical_chat.read, topical_chat.SPLITS, topical_chat.LICENCE),
}


def read(name: str, root: Path, split: str) -> Iterator[Dialogue]:
    """Return the dialogues of a corpus, which lies in the folder `root/name`.

    Raises:
        ValueError: unknown corpus or split; while iterating, CorpusError for a line that does not parse.
        FileNotFoundError: an official file is missing.
    """
    return _corpus(name).reader(Path(root) / name, split)


def files(name: str, root: Path, split: str) -> list[Path]:
    """Return the files that `read` would read, e.g. to hash them; raises what `read` raises."""
    return split_files(Path(root) / name, split, _corpus(name).splits)


def available(root: Path) -> list[tuple[str, str]]:
    """Return the (corpus, split) pairs whose files are all under `root`."""
    return [
        (name, split)
        for name, corpus in CORPORA.items()
        for split, paths in corpus.splits.items()
        if all((Path(root) / name / path).is_file() for path in paths)
    ]


def default_root() -> Path | None:
    """Return the folder of the corpora: DIALOG_ENVS_DATA, else `../shared/data` beside the repository, else None."""
    if os.environ.get(ROOT_VARIABLE):
        return Path(os.environ[ROOT_VARIABLE])
    beside = Path(__file__).parents[3] / "shared" / "data"
    return beside if beside.is_dir() else None


def root(data: Path | None = None) -> Path:
    """Return the folder of the corpora: the one that is given, else the default one.

    Raises:
        FileNotFoundError: none is given, and there is no default one.
    """
    found = data or default_root()
    if found is None:
        raise FileNotFoundError("no corpus folder: give --data DIR or set DIALOG_ENVS_DATA")
    return found


def _corpus(name: str) -> Corpus:
    if name not in CORPORA:
        close = difflib.get_close_matches(name, CORPORA, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(CORPORA)}"
        raise ValueError(f"unknown corpus {name!r}; {hint}")
    return CORPORA[name]
