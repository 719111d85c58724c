"""The most emotional dialogues are those that sorting all of them would give, found in the memory of K."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dialog_envs.corpora.empathetic_intents import EMOTIONS, LABELS
from experiments.curate.selection import emotionality, most_emotional


def by_words(texts):
    """Return probabilities: the share of words that are `sad` on sadness, the rest on neutral."""
    found = np.zeros((len(texts), len(LABELS)))
    for row, text in zip(found, texts, strict=True):
        share = np.mean([word == "sad" for word in text.split()])
        row[LABELS.index("sad")], row[LABELS.index("neutral")] = share, 1 - share
    return found


def test_the_mean_over_utterances_of_the_mass_on_emotions():
    dialogues = [["sad sad", "not"], ["sad or not or"], ["fine", "fine", "sad sad sad"]]
    np.testing.assert_allclose(emotionality(dialogues, by_words), [1 / 2, 1 / 4, 1 / 3])


def test_against_a_slow_version_on_any_probabilities():
    rng = np.random.default_rng(0)
    table = {f"u{i}": rng.dirichlet(np.ones(len(LABELS))) for i in range(30)}
    dialogues = [[f"u{k}" for k in rng.integers(0, 30, rng.integers(1, 6))] for _ in range(20)]
    slow = [np.mean([sum(table[u][: len(EMOTIONS)]) for u in dialogue]) for dialogue in dialogues]
    found = emotionality(dialogues, lambda texts: np.array([table[text] for text in texts]))
    np.testing.assert_allclose(found, slow)
    assert len(EMOTIONS) == 32 and len(emotionality([], by_words)) == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.ones((2, 40)) / 40, r"shape \(2, 40\), expected \(2, 41\)"),
        (np.ones((2, 41)), "no probabilities"),
        (np.full((2, 41), np.nan), "no probabilities"),
        (np.eye(41)[:2] * 3 - 2 * np.eye(41)[1:3], "no probabilities"),
    ],
)
def test_what_is_no_probability_is_refused(answer, message):
    with pytest.raises(ValueError, match=message):
        emotionality([["a", "b"]], lambda texts: answer)


def test_an_empty_dialogue_is_refused():
    with pytest.raises(ValueError, match="dialogue 1 has no utterances"):
        emotionality([["a"], []], by_words)


@pytest.mark.parametrize("keep", [1, 5, 50, 200, 1000])
def test_against_sorting(keep):
    rng = np.random.default_rng(keep)
    scores = rng.integers(0, 40, 200) / 40  # many are equal: the earlier one goes first
    stream = [(score, [f"dialogue {i}"]) for i, score in enumerate(scores)]
    order = sorted(range(200), key=lambda i: (-scores[i], i))
    assert most_emotional(stream, keep) == sorted(order[:keep])


def test_the_same_words_count_once():
    stream = [(0.5, ["Oh no."]), (0.9, ["Help!"]), (0.5, ["oh no."]), (0.9, ["Help!"]), (0.1, ["Fine."])]
    assert most_emotional(stream, 3) == [0, 1, 4]
    evicted = [(0.1, ["a"]), (0.2, ["b"]), (0.3, ["a"])]  # what was dropped may come again
    assert most_emotional(evicted, 1) == [2]


def test_memory_grows_with_k_alone(monkeypatch):
    held = []
    push = sys.modules["heapq"].heapreplace
    monkeypatch.setattr("heapq.heapreplace", lambda heap, entry: held.append(len(heap)) or push(heap, entry))
    stream = ((i / 10_000, [f"dialogue {i}"]) for i in range(10_000))
    assert len(most_emotional(stream, 7)) == 7
    assert set(held) == {7}
