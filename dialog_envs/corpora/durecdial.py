"""DuRecDial 2.0 (Liu et al., EMNLP 2021), the English side: a recommender leads from chat to recommendations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dialog_envs.corpora.files import CorpusError, member, numbered_lines, parse_json, split_files, strings, turns
from dialog_envs.corpora.text import clean
from dialog_envs.dialogue import Dialogue

SPLITS = {"train": ("en_train.txt",), "valid": ("en_dev.txt",)}
LICENCE = "none stated"
GREETINGS = "Greetings"  # the recommender begins with them; otherwise the seeker begins
_MARK = re.compile(r"^\s*\[\d+\]\s*")  # where a goal of the plan begins


def read(folder: Path, split: str) -> Iterator[Dialogue]:
    """Yield dialogues; a turn's act is its goal type, the recommender's situation the knowledge, the label a topic."""
    (path,) = split_files(folder, split, SPLITS)
    return _dialogues(path)


def _dialogues(path: Path) -> Iterator[Dialogue]:
    for number, line in numbered_lines(path):
        record = parse_json(path, line, dict, number)
        said, goals = (strings(record, key, path, number) for key in ("conversation", "goal_type_list"))
        if not said or len(said) != len(goals):
            raise CorpusError(path, number, f"a goal type for each of {len(said)} turns, found {len(goals)}")
        order = ("recommender", "seeker") if goals[0] == GREETINGS else ("seeker", "recommender")
        spoken = [(order[i % 2], _MARK.sub("", text), goals[i]) for i, text in enumerate(said)]
        profile = member(record, "user_profile", dict, path, number)
        situations = {"recommender": _knowledge(record, path, number), "seeker": _profile(profile)}
        topics = [topic for topic in record.get("goal_topic_list", []) if isinstance(topic, str) and topic]
        yield Dialogue(
            turns(spoken),
            {speaker: text for speaker, text in situations.items() if text},
            source="durecdial",
            label=topics[-1] if topics else None,
        )


def _knowledge(record: Mapping[str, Any], path: Path, number: int) -> str:
    """Return the facts that the dialogue uses, each once: a triple a turn, or an empty list."""
    facts = member(record, "knowledge", list, path, number)
    triples = [" ".join(map(str, fact)) if isinstance(fact, list) else str(fact) for fact in facts]
    return clean("; ".join(dict.fromkeys(triple for triple in triples if triple.strip())))


def _profile(profile: Mapping[str, Any]) -> str:
    lines = [
        f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}" for key, value in profile.items()
    ]
    return clean("; ".join(lines))
