"""What is rated: contexts with the replies of several systems, which a person meets shuffled and without names."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dialog_envs.corpora.files import CorpusError, member, numbered_lines, parse_json, strings

TRUE = "true reply"


@dataclass(frozen=True)
class Item:
    """A context, the reply of each system to it, and what was really said (None: nobody knows)."""

    id: str
    context: tuple[str, ...]
    candidates: Mapping[str, str]
    true_reply: str | None = None


@dataclass(frozen=True)
class Card:
    """A reply, and all who gave it: equal replies are shown once."""

    reply: str
    systems: tuple[str, ...]


def read(path: Path) -> list[Item]:
    """Read a file of JSON lines: `{"context": [...], "candidates": {system: reply}, "true_reply": ..., "id": ...}`.

    `true_reply` may be missing or null, `id` too: then it is the line's number.

    Raises:
        FileNotFoundError: there is no such file.
        CorpusError: a line is not of this form; the message names it.
    """
    items: dict[str, Item] = {}
    for number, line in numbered_lines(path):
        record = parse_json(path, line, dict, number)
        unknown = set(record) - {"id", "context", "candidates", "true_reply"}
        if unknown:
            raise CorpusError(path, number, f"id, context, candidates and true_reply, found {sorted(unknown)[0]!r}")
        candidates = member(record, "candidates", dict, path, number)
        replies = {name: member(candidates, name, str, path, number) for name in candidates}
        true = member(record, "true_reply", str, path, number) if record.get("true_reply") is not None else None
        item = Item(
            str(record.get("id", number)), tuple(strings(record, "context", path, number)), _stripped(replies), true
        )
        said = [*item.context, *item.candidates.values(), *([] if true is None else [true])]
        if not item.context or not item.candidates or not all(text.strip() for text in said):
            raise CorpusError(path, number, "a context, candidates and no blank text")
        if TRUE in item.candidates or not all(name.strip() for name in item.candidates):
            raise CorpusError(path, number, f"systems with names, none of them {TRUE!r}")
        if item.id in items:
            raise CorpusError(path, number, f"an id of its own, found {item.id!r} again")
        items[item.id] = item
    if not items:
        raise CorpusError(path, "file", "at least one line")
    return list(items.values())


def _stripped(replies: Mapping[str, str]) -> dict[str, str]:
    return {name: reply.strip() for name, reply in replies.items()}


def checks(items: Sequence[Item], share: float, seed: int) -> set[str]:
    """Return the ids of the items that are checks, the same for all raters: the true reply lies among their candidates.

    Args:
        items: all items; those without a true reply are no checks.
        share: of those with one; one check at least where it is above 0.
        seed: chooses them.
    """
    able = [item.id for item in items if item.true_reply is not None]
    number = min(len(able), max(1, round(share * len(able)))) if share > 0 else 0
    return set(random.Random(f"{seed}/checks").sample(able, number))


def order(items: Sequence[Item], seed: int, rater: str) -> list[Item]:
    """Return the items in a rater's own order."""
    return random.Random(f"{seed}/{rater}").sample(items, len(items))


def cards(item: Item, seed: int, rater: str, check: bool) -> list[Card]:
    """Return an item's replies in an order of the rater's own, the true one among them if the item is a check."""
    said: dict[str, list[str]] = {}
    for system, reply in item.candidates.items():
        said.setdefault(reply, []).append(system)
    if check and item.true_reply is not None:
        said.setdefault(item.true_reply.strip(), []).append(TRUE)
    made = [Card(reply, tuple(systems)) for reply, systems in sorted(said.items())]
    random.Random(f"{seed}/{rater}/{item.id}").shuffle(made)
    return made
