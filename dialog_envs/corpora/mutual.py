"""MuTual (Cui et al., ACL 2020): listening-comprehension dialogues with four candidate next turns.

The release is a folder `mutual/train` (`dev`) of files, each one JSON object `{"answers": "A", "options": [...],
"article", "id"}`, in which `f : ` and `m : ` begin a turn; `mutual_plus` has the same form, with a safe reply among the
options. The training files also come as one archive.
"""

from __future__ import annotations

import lzma
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dialog_envs.corpora.files import CorpusError, member, parse_json, read_text, split_files, strings, turns
from dialog_envs.corpora.text import clean
from dialog_envs.dialogue import Dialogue

SPLITS = {"train": ("mutual_train.tar.xz",)}
LICENCE = "none stated"
FOLDERS = {"train": "train", "valid": "dev"}
_TURN = re.compile(r"(?:^|\s)([fm]) ?: ")


@dataclass(frozen=True)
class Choice:
    """A context, the candidates for its next turn, and which of them is right."""

    context: tuple[str, ...]
    options: tuple[str, ...]
    answer: int


def read(folder: Path, split: str) -> Iterator[Dialogue]:
    """Yield each dialogue of "f" and "m" with the right next turn as its last one."""
    (path,) = split_files(folder, split, SPLITS)
    return (_dialogue(name, text) for name, text in _archived(path))


def choice_files(folder: Path, split: str) -> list[Path]:
    """Return the files of a split: those of the release's folder, else the archive.

    Raises:
        ValueError: there is no such split.
        FileNotFoundError: there is neither.
    """
    if split not in FOLDERS:
        raise ValueError(f"{Path(folder).name} has no split {split!r}; it has: {', '.join(FOLDERS)}")
    found = sorted((Path(folder) / FOLDERS[split]).glob("*.txt"))
    if found or split not in SPLITS:
        if not found:
            raise FileNotFoundError(f"no official files {FOLDERS[split]}/*.txt in the folder {folder}")
        return found
    return split_files(folder, split, SPLITS)


def read_choices(folder: Path, split: str) -> Iterator[Choice]:
    """Yield every context with its candidates, of MuTual or of MuTual Plus; speakers are left out of the text."""
    paths = choice_files(folder, split)
    if paths[0].suffix == ".xz":
        return (_choice(name, text) for name, text in _archived(paths[0]))
    return (_choice(path, read_text(path)) for path in paths)


def _archived(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield name and text of every file of an archive."""
    try:
        with tarfile.open(path, "r:xz") as archive:
            for entry in archive:
                stream = archive.extractfile(entry) if entry.isfile() else None
                if stream is not None:
                    yield path / entry.name, stream.read().decode("utf-8")
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise CorpusError(path, "the archive", f"a tar archive packed by xz ({error})") from error


def _record(path: Path, text: str) -> tuple[str, list[str], int]:
    """Return the article, the options and the index of the right one."""
    record = parse_json(path, text, dict)
    options = strings(record, "options", path, 1)
    letters, answer = "ABCD"[: len(options)], member(record, "answers", str, path, 1)
    if len(answer) != 1 or answer not in letters:
        raise CorpusError(path, 1, f"'answers' to be one of the letters {letters}, found {answer!r}")
    return member(record, "article", str, path, 1), options, letters.index(answer)


def _said(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Return the (speaker, text) pairs of an article."""
    _, *parts = _TURN.split(text)
    if not parts:
        raise CorpusError(path, 1, "'article' to have turns that begin with 'f : ' or 'm : '")
    return zip(parts[::2], parts[1::2], strict=True)


def _dialogue(path: Path, text: str) -> Dialogue:
    article, options, answer = _record(path, text)
    return Dialogue(turns(_said(path, f"{article} {options[answer]}")), source="mutual")


def _choice(path: Path, text: str) -> Choice:
    article, options, answer = _record(path, text)
    context = tuple(turn.text for turn in turns(_said(path, article)))
    return Choice(context, tuple(clean(_TURN.sub(" ", option)) for option in options), answer)
