"""Invented values: words drawn at random in place of a dialogue's facts, so that answers cannot be learned by heart.

A small language model that meets each job and each secret a thousand times learns them by heart, and says the one it
knows best. With values that it never met before it must look them up in the situation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from dialog_envs.dialogue import Dialogue

P_INVENTED = 0.5  # share of training dialogues whose values are invented, where words for it are given
WORDS_OF_A_VALUE = (0.5, 0.4, 0.1)  # how often a value has one, two, three words
_ARTICLE = re.compile(r"^(?:an?|the|my|two|three|four|five|six|seven|eight|ten|twelve) ")


def word_pool(texts: Iterable[str], held_out: Iterable[str], at_least: int = 5) -> tuple[str, ...]:
    """Return the words of 3 to 10 letters that occur `at_least` times in the texts and in no held-out value.

    None where all begin with a vowel, or none does: `invent` needs both.
    """
    counts = Counter(word for text in texts for word in re.findall(r"\b[a-z]{3,10}\b", text.lower()))
    known = {word for value in held_out for word in re.findall(r"[a-z]+", value)}
    words = tuple(sorted(word for word, count in counts.items() if count >= at_least and word not in known))
    return words if len({word[0] in "aeiou" for word in words}) == 2 else ()


def core(value: str) -> str:
    """Return the words of a value without article or number: `"a red umbrella"` -> `"red umbrella"`."""
    return _ARTICLE.sub("", value)


def invent(dialogue: Dialogue, values: Sequence[str], words: Sequence[str], rng: np.random.Generator) -> Dialogue:
    """Return the dialogue with other words in place of each value that a situation states, wherever it stands.

    With probability `P_INVENTED`; without `words` the dialogue stays as it is. The first letter stays a vowel or a
    consonant, for the article before it.
    """
    if not words or rng.random() >= P_INVENTED:
        return dialogue
    swaps = {}
    stated = " ".join(dialogue.situations.values())
    for value in map(core, values):
        if value not in stated:
            continue
        count = 1 + int(rng.choice(3, p=WORDS_OF_A_VALUE))
        drawn = [words[int(rng.random() * len(words))] for _ in range(count)]
        while (drawn[0][0] in "aeiou") != (value[0] in "aeiou"):
            drawn[0] = words[int(rng.random() * len(words))]
        swaps[value] = " ".join(drawn)
    # All at once and longest first: what was put in is not replaced again, nor a part of a longer value.
    longest_first = map(re.escape, sorted(swaps, key=len, reverse=True))
    found = re.compile(rf"\b({'|'.join(longest_first)})(?=(?:e?s)?\b)") if swaps else re.compile("(?!)")
    return replace(
        dialogue,
        situations={speaker: _swap(found, swaps, text) for speaker, text in dialogue.situations.items()},
        turns=tuple(replace(turn, text=_swap(found, swaps, turn.text)) for turn in dialogue.turns),
    )


def _swap(found: re.Pattern[str], swaps: dict[str, str], text: str) -> str:
    return found.sub(lambda match: swaps[match.group(1)], text)
