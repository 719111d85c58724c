"""Ratings on disk: a file of JSON lines for each rater, written whole after every answer."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dialog_envs.corpora.files import CorpusError, member, numbered_lines, parse_json
from experiments.run_folder import write_text

RATINGS = ("good", "okay", "bad")


@dataclass(frozen=True)
class Answer:
    """What a rater says of one item: a rating of each system, and of the true reply where the item was a check."""

    item: str
    rater: str
    ratings: Mapping[str, str]
    at: str = ""

    @classmethod
    def now(cls, item: str, rater: str, ratings: Mapping[str, str]) -> Answer:
        """Return an answer given now, with the time in UTC."""
        return cls(item, rater, ratings, datetime.now(UTC).isoformat(timespec="seconds"))


class AnswerFile:
    """The answers of one rater, by item.

    Args:
        folder: of the run.
        rater: letters, digits, dashes and underscores.

    Raises:
        ValueError: the rater's name has other characters, or the file holds something else.
    """

    def __init__(self, folder: Path, rater: str) -> None:
        if not re.fullmatch(r"[\w-]{1,40}", rater, re.ASCII):
            raise ValueError(f"rater is {rater!r}, expected at most 40 letters, digits, dashes and underscores")
        self.path = folder / "ratings" / f"{rater}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self.answers = {answer.item: answer for answer in read_file(self.path)} if self.path.exists() else {}

    def add(self, answer: Answer) -> None:
        """Save an answer; one of the same item is replaced."""
        with self._lock:
            answers = {**self.answers, answer.item: answer}
            write_text(self.path, "".join(json.dumps(asdict(a), ensure_ascii=False) + "\n" for a in answers.values()))
            self.answers = answers


def read_all(folder: Path) -> list[Answer]:
    """Return the answers of all raters of a run."""
    return [answer for path in sorted((folder / "ratings").glob("*.jsonl")) for answer in read_file(path)]


def read_file(path: Path) -> list[Answer]:
    """Return the answers in a file; raise CorpusError, naming the line, where it holds something else."""
    found = []
    for number, line in numbered_lines(path):
        record = parse_json(path, line, dict, number)
        ratings = member(record, "ratings", dict, path, number)
        if not ratings or not set(ratings.values()) <= set(RATINGS):
            raise CorpusError(path, number, f"ratings, each one of {', '.join(RATINGS)}")
        names = (member(record, name, str, path, number) for name in ("item", "rater"))
        found.append(Answer(*names, ratings, member(record, "at", str, path, number)))
    return found
