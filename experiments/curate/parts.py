"""What one process does with one part of the subtitle files, and how parts are spread over processes."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from dialog_envs.corpora.files import CorpusError
from experiments.curate import cleaning
from experiments.curate.dialogues import cleaned, count, segment
from experiments.curate.selection import Classifier, emotionality
from experiments.curate.speakers import SpeakerModel, matrix, pairs
from experiments.curate.subtitles import Source, read
from experiments.run_folder import file_hash, write_json
from reward_models.emotion import POCKET, EmotionClassifier

MakeClassifier = Callable[[str], Classifier]
T, R = TypeVar("T"), TypeVar("R")
BATCH = 512
"""Dialogues that are scored at a time."""


@dataclass(frozen=True)
class Part:
    """Some of the subtitle files, and the files in the run folder of what they give."""

    out: Path
    number: int
    sources: tuple[Source, ...]

    @property
    def dialogues(self) -> Path:
        """One dialogue a line: `source`, `start` (seconds) and `turns`."""
        return self.out / "parts" / f"{self.number:05}.jsonl"

    @property
    def counts(self) -> Path:
        """Counts, hashes of the files, and why a file was left out; written last."""
        return self.dialogues.with_suffix(".json")

    def scores(self, key: str) -> Path:
        """Emotionality of each dialogue by the classifier of a key."""
        return self.out / "emotionality" / key / f"{self.number:05}.json"


class Work:
    """Processes that do one kind of work after another; with one worker, this process does it."""

    def __init__(self, workers: int) -> None:
        self._pool = ProcessPoolExecutor(workers, _context()) if workers > 1 else None

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def map(self, what: str, do: Callable[..., R], items: Sequence[T], *more: Any) -> list[R]:
        """Return `do(item, *more)` of every item, in order, behind a progress bar."""
        bar = {"desc": what, "total": len(items), "disable": not items}
        if self._pool is None or len(items) < 2:
            return [do(item, *more) for item in tqdm(items, **bar)]
        waiting = [self._pool.submit(do, item, *more) for item in items]
        return [future.result() for future in tqdm(waiting, **bar)]


def _context() -> BaseContext:
    """Return how processes start: no plain fork, which copies the locks of threads that are not there."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # so that not every process imports torch
    return context


def marked(source: Source, encoding: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels of the pairs of lines whose marks tell who speaks; none of a malformed file."""
    try:
        chosen = [pair for pair in pairs(cleaning.lines(read(source, encoding), Counter())) if pair[2] is not None]
    except CorpusError:
        chosen = []
    return matrix([pair[:2] for pair in chosen]), np.array([same for _, _, same in chosen], int)


def write_dialogues(part: Part, speakers: Path, longest_gap: float, encoding: str | None) -> None:
    """Read a part's files and write its dialogues and counts; a malformed file gives nothing but its name and fault."""
    model = SpeakerModel.load(speakers)
    before, removed = Counter(), Counter()
    malformed: dict[str, str] = {}

    def found() -> Iterator[dict[str, Any]]:
        for source in part.sources:
            dropped = Counter()
            try:
                lines = list(cleaning.lines(read(source, encoding), dropped))
            except CorpusError as error:
                malformed[str(source)] = str(error)
                continue
            removed.update(dropped)
            for dialogue in segment(lines, model, longest_gap):
                before.update(count([turn.text for turn in dialogue]))
                for turns in cleaned(dialogue, removed):
                    yield {"source": str(source), "start": turns[0].start, "turns": [turn.text for turn in turns]}

    after = write_lines(part.dialogues, found())
    write_json(
        part.counts,
        {
            "before": before,
            "after": after,
            "removed": removed,
            "malformed": malformed,
            "files": {str(source): source.hash() for source in part.sources},
        },
    )


def write_scores(part: Part, key: str, classifier: str, make: MakeClassifier) -> None:
    """Write the emotionality of a part's dialogues."""
    tell = _made(make, classifier)
    dialogues = [line["turns"] for line in read_lines(part.dialogues)]
    starts = range(0, len(dialogues), BATCH)
    scores = [emotionality(dialogues[at : at + BATCH], tell).round(6).tolist() for at in starts]
    path = part.scores(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, [score for batch in scores for score in batch])


@lru_cache(1)
def _made(make: MakeClassifier, name: str) -> Classifier:
    """Make a process's classifier once."""
    return make(name)


def load_classifier(name: str) -> Classifier:
    """Return the project's classifier: `pocket`, or one of a folder. It has one thread; the processes are many."""
    torch.set_num_threads(1)
    classifier = EmotionClassifier.from_pretrained(name)

    def tell(texts: list[str]) -> np.ndarray:
        classifier.forget()  # or what it says would hang, in the last digit, on what this process met before
        return classifier(texts)

    return tell


def classifier_key(name: str) -> str:
    """Return a folder's name for what a classifier says: its own name and the hash of its weights."""
    folder = POCKET if name == "pocket" else Path(name)
    weights = "".join(file_hash(path) for path in sorted(folder.glob("*.safetensors")))
    return f"{folder.name}_{hashlib.sha256(weights.encode()).hexdigest()[:12]}"


def total(cut: Iterable[Part]) -> dict[str, Any]:
    """Return the counts of all parts together, and the malformed files by name."""
    found: dict[str, Any] = {"before": Counter(), "after": Counter(), "removed": Counter(), "malformed": {}, "files": 0}
    for part in cut:
        counts = json.loads(part.counts.read_text(encoding="utf-8"))
        for name in ("before", "after", "removed", "malformed"):
            found[name].update(counts[name])
        found["files"] += len(counts["files"])
    return found


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of JSON lines."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> Counter[str]:
    """Write dialogues as JSON lines as they come, whole or not at all; return their counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    counts: Counter[str] = Counter()
    with temporary.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
            counts.update(count(line["turns"]))
    temporary.replace(path)
    return counts
