"""Phrasings and values of the own-written scenarios: reading them, holding some out, drawing from them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dialog_envs.scenarios.scenario import SPLITS

T = TypeVar("T")
DATA = Path(__file__).parent / "data"
HELD_OUT_EVERY = 5  # every fifth phrasing of a list is held out from training
KEY_WORDS = re.compile(r"\[([^\]]+)\]")
SECOND_PERSON = {
    "i am": "you are", "i'm": "you are", "i was": "you were", "i": "you", "me": "you", "my": "your",
    "mine": "yours", "myself": "yourself", "am": "are",
}  # fmt: skip
_FIRST_PERSON = re.compile(r"\b(" + "|".join(sorted(SECOND_PERSON, key=len, reverse=True)) + r")(?![\w'])")


def check_split(split: str) -> None:
    """Raise ValueError for an unknown split."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}, expected one of {', '.join(SPLITS)}")


@cache
def load_data(kind: str) -> dict[str, Any]:
    """Read `data/<kind>.json`."""
    return json.loads((DATA / f"{kind}.json").read_text(encoding="ascii"))


def visible_phrasings(lines: Sequence[str], split: str) -> tuple[str, ...]:
    """Return the phrasings that a split may use: all but every fifth in `"train"`, all in `"heldout"`."""
    if split == "heldout":
        return tuple(lines)
    return tuple(line for i, line in enumerate(lines) if i % HELD_OUT_EVERY != HELD_OUT_EVERY - 1)


@cache
def phrasebook(kind: str, section: str, split: str) -> dict[str, tuple[str, ...]]:
    """Return one section of a kind's phrasings (`"agent"`, `"partner"`), by act."""
    check_split(split)
    return {act: visible_phrasings(lines, split) for act, lines in load_data(kind)[section].items()}


@cache
def lines_of(kind: str, name: str, split: str) -> tuple[str, ...]:
    """Return a top-level list of phrasings of a kind."""
    check_split(split)
    return visible_phrasings(load_data(kind)[name], split)


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Draw one of the options uniformly, with one uniform number."""
    return options[int(rng.random() * len(options))]


def fresh(rng: np.random.Generator, options: Sequence[T], drawn: set[T]) -> T:
    """Draw one of the options that is not in `drawn`, where one is left, and put it there: people repeat themselves
    less often than chance would."""
    chosen = pick(rng, [option for option in options if option not in drawn] or options)
    drawn.add(chosen)
    return chosen


def draw(rng: np.random.Generator, probabilities: Mapping[str, float], otherwise: str) -> str:
    """Draw a key with its probability; `otherwise` gets what is left to one."""
    u = rng.random()
    for key, probability in probabilities.items():
        u -= probability
        if u < 0:
            return key
    return otherwise


def weighted(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """Draw a key in proportion to its weight."""
    u = rng.random() * sum(weights.values())
    key = ""
    for key, weight in weights.items():
        u -= weight
        if u < 0:
            return key
    return key


def random_weights(rng: np.random.Generator, names: Sequence[str]) -> dict[str, float]:
    """Draw weights that favour a few of the names, anew for each dialogue."""
    return {name: float(u) ** 3 for name, u in zip(names, rng.random(len(names)), strict=True)}


def shuffled(rng: np.random.Generator, items: Sequence[T]) -> list[T]:
    """Return the items in random order."""
    return [items[i] for i in rng.permutation(len(items))]


def second_person(text: str) -> str:
    """Turn a first-person sentence into the second person: `"my dog ran away"` -> `"your dog ran away"`."""
    return _FIRST_PERSON.sub(lambda match: SECOND_PERSON[match.group(1)], text)


def plain(marked: str) -> str:
    """Return a sentence without the brackets that mark its key words."""
    return marked.replace("[", "").replace("]", "")


def literal(text: str) -> str:
    """Return a regular expression for the text itself, its spaces left readable."""
    return re.escape(text).replace(r"\ ", " ")


def key_pattern(marked: str) -> str:
    """Return a regular expression for the bracketed key words of a sentence.

    Raises:
        ValueError: nothing is marked.
    """
    keys = KEY_WORDS.findall(marked)
    if not keys:
        raise ValueError(f"no [key words] are marked in {marked!r}")
    return r"[^.?!]*".join(rf"\b{literal(key)}\b" for key in keys)


def joined(names: Sequence[str]) -> str:
    """Join words as one says them: `["a", "b", "c"]` -> `"a, b and c"`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def matches(patterns: Sequence[str], text: str) -> bool:
    """Return whether one of the patterns occurs in the text."""
    return any(re.search(pattern, text) for pattern in patterns)
