"""Answers of expensive judges on disk: asked once, known ever after, in one SQLite file that processes can share."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

MODEL_FILES = (".safetensors", ".json", ".jinja")  # what a model's answers hang on
LOCK_WAIT = 30.0  # seconds for another process to finish writing


def cache_key(*parts: Any) -> str:
    """Return a SHA-256 over parts that JSON can hold, e.g. (judge, prompt, transcript)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def files_hash(folder: str | Path) -> str:
    """Return a SHA-256 over a model folder's weights, settings and tokenizer; that of nothing for any other name."""
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(folder).glob("*") if path.suffix in MODEL_FILES):
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class AnswerCache:
    """A table key -> answer.

    Args:
        path: the SQLite file, made with its folder where it does not exist; None keeps the answers in memory.

    Raises:
        ValueError: the file is no SQLite database.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path or ":memory:", LOCK_WAIT, check_same_thread=False, isolation_level=None)
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} is no cache of answers: {error}") from error

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """Return the answers that are known, by key."""
        found = {}
        with self._lock:
            for key in set(keys):
                row = self._database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    found[key] = row[0]
        return found

    def put(self, answers: Mapping[str, str]) -> None:
        """Keep answers; one that is known already stays."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR IGNORE INTO answers VALUES (?, ?)", answers.items())
            self._database.execute("COMMIT")

    def __len__(self) -> int:
        """Number of answers."""
        with self._lock:
            return self._database.execute("SELECT COUNT(*) FROM answers").fetchone()[0]

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def cached_numbers(
    cache: AnswerCache, keys: Sequence[str], compute: Callable[[Sequence[int]], Sequence[float]]
) -> list[float]:
    """Return a number a key; `compute` is called once, with one position for each key that is not known."""
    known = cache.get(keys)
    first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in known}
    if first:
        numbers = compute(sorted(first.values()))
        computed = {keys[i]: repr(float(number)) for i, number in zip(sorted(first.values()), numbers, strict=True)}
        cache.put(computed)
        known |= computed
    return [float(known[key]) for key in keys]
