"""Believability of an agent's turns: does it talk as a person would, or does it repeat, copy, recite and babble?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import isnan

from reward_models.lexicon import CACHE_SIZE, is_gibberish, sentences, words

LONGEST_TURN = 40
"""Words that a turn may have before its length counts against it."""
COHERENT = 0.25
"""Coherence from which on a turn loses nothing: most turns of real dialogues have more."""


def ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to `low`, 1 from `high` on, and the straight line between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


@lru_cache(CACHE_SIZE)
def form(text: str) -> float:
    """Return the soundness of one turn by itself, in [0, 1]: the product of

    - length: 0 without a word, 0.4 with one different word, 0.7 with two, `40 / n` for n > 40 words, else 1;
    - variety: the square of the share of different bigrams (distinct-2);
    - words: the square of the share of tokens that are no gibberish.
    """
    tokens = words(text)
    if not tokens:
        return 0.0
    length = {1: 0.4, 2: 0.7}.get(len(set(tokens)), 1.0) * min(1.0, LONGEST_TURN / len(tokens))
    bigrams = list(zip(tokens, tokens[1:], strict=False))
    variety = len(set(bigrams)) / len(bigrams) if bigrams else 1.0
    sound = 1.0 - sum(map(is_gibberish, tokens)) / len(tokens)
    return length * variety**2 * sound**2


@lru_cache(CACHE_SIZE)
def copied_share(text: str, source: str, order: int) -> float:
    """Return the share of a text's words that lie in an n-gram (`order` words) of `source`, in [0, 1].

    A text shorter than `order` words is one n-gram.
    """
    tokens, original = words(text), words(source)
    order = min(order, len(tokens))
    if order == 0:
        return 0.0
    known = {original[i : i + order] for i in range(len(original) - order + 1)}
    covered = set()
    for i in range(len(tokens) - order + 1):
        if tokens[i : i + order] in known:
            covered.update(range(i, i + order))
    return len(covered) / len(tokens)


@lru_cache(CACHE_SIZE)
def repeated_share(text: str, earlier: str) -> float:
    """Return how far a turn repeats an earlier one, in [0, 1]: the larger of

    - the share of its words in sentences (three words or more, fillers left out) that the earlier turn holds too;
    - the Jaccard index of the two sets of words, from 0.7 (counts 0) to 0.9 (counts 1).
    """
    first, second = set(words(earlier)), set(words(text))
    if not first or not second:
        return 0.0
    if words(text) == words(earlier):
        return 1.0
    known = {sentence for sentence, _ in sentences(earlier)}
    here = [sentence for sentence, _ in sentences(text)]
    total = sum(map(len, here))
    same = sum(len(sentence) for sentence in here if len(sentence) >= 3 and sentence in known)
    jaccard = len(first & second) / len(first | second)
    return max(same / total if total else 0.0, ramp(jaccard, 0.7, 0.9))


def believability(
    turns: Sequence[tuple[str, str]],
    description: str,
    agent: str = "agent",
    coherence: Sequence[float] | None = None,
) -> float:
    """Return the believability of the agent, in [0, 10]; 0 for an agent that says nothing.

    10 * (mean over the agent's turns of form * (1 - echo) * (1 - recital) * fit) * 0.5 ** (sum over its turns of
    repetition)

    - echo: the share of the turn's words copied in trigrams from the partner's last turn, from 0.5 (0) to 1 (1);
    - recital: the share copied in 4-grams from the goal's description, from 0.3 (0) to 0.8 (1);
    - repetition: the largest `repeated_share` with an earlier turn of its own. One phrase in four turns ends at 1.25;
    - fit: the turn's coherence over `COHERENT`, at most 1. 1 for a turn without coherence (NaN), and throughout where
      none is given.

    Args:
        turns: (speaker, text) in order.
        description: of the agent's goal.
        agent: whose believability it is.
        coherence: of each turn of the agent (`CoherenceReward.score_turns`), in [0, 1] or NaN.

    Raises:
        ValueError: there are not as many coherences as turns of the agent.
    """
    count = sum(speaker == agent for speaker, _ in turns)
    fits = [1.0] * count if coherence is None else [1.0 if isnan(c) else min(1.0, c / COHERENT) for c in coherence]
    if len(fits) != count:
        raise ValueError(f"{len(fits)} coherences for {count} turns of {agent!r}, expected as many of each")
    own: list[str] = []
    heard = ""
    quality = repetition = 0.0
    for speaker, text in turns:
        if speaker != agent:
            heard = text
            continue
        echo = ramp(copied_share(text, heard, 3), 0.5, 1.0) if heard else 0.0
        recital = ramp(copied_share(text, description, 4), 0.3, 0.8)
        quality += form(text) * (1.0 - echo) * (1.0 - recital) * fits[len(own)]
        repetition += max((repeated_share(text, earlier) for earlier in own), default=0.0)
        own.append(text)
    return 10.0 * quality / len(own) * 0.5**repetition if own else 0.0
