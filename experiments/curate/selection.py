"""How emotional dialogues are, and the K most emotional ones of a stream (Xie and Pu, CoNLL 2021, section on EDOS)."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import numpy as np

from dialog_envs.corpora.empathetic_intents import EMOTIONS, LABELS

Classifier = Callable[[list[str]], np.ndarray]
"""Utterances to probabilities of `LABELS`, `(n, 41)`; the first 32 are the emotions."""


def emotionality(dialogues: Sequence[Sequence[str]], classifier: Classifier) -> np.ndarray:
    """Return each dialogue's mean, over its utterances, of the probability of the 32 emotions together.

    Args:
        dialogues: utterances of each; all are one call of the classifier.
        classifier: what tells the emotions.

    Returns:
        float64, `(dialogues,)`, in [0, 1].

    Raises:
        ValueError: a dialogue is empty, or the classifier returns no probabilities of that shape.
    """
    if not dialogues:
        return np.zeros(0)
    lengths = [len(dialogue) for dialogue in dialogues]
    if not min(lengths):
        raise ValueError(f"dialogue {lengths.index(0)} has no utterances, expected one or more")
    found = np.asarray(classifier(list(chain.from_iterable(dialogues))), float)
    if found.shape != (sum(lengths), len(LABELS)):
        raise ValueError(f"the classifier returned shape {found.shape}, expected {(sum(lengths), len(LABELS))}")
    if not (np.isfinite(found).all() and (found >= 0).all() and np.allclose(found.sum(1), 1, atol=1e-3)):
        raise ValueError("the classifier returned rows that are no probabilities: expected sums of 1, none negative")
    mass = found[:, : len(EMOTIONS)].sum(1)
    return np.add.reduceat(mass, np.cumsum([0, *lengths[:-1]])) / lengths


def most_emotional(dialogues: Iterable[tuple[float, Sequence[str]]], keep: int) -> list[int]:
    """Return the places of the `keep` most emotional dialogues, in the order of the stream.

    Of dialogues with the same words one counts; of equally emotional ones the earlier. Memory grows with `keep` alone.

    Args:
        dialogues: emotionality and utterances of each.
        keep: how many.
    """
    heap: list[tuple[float, int, bytes]] = []
    held: set[bytes] = set()
    for place, (score, turns) in enumerate(dialogues):
        if len(heap) == keep and score <= heap[0][0]:
            continue
        digest = hashlib.blake2b("\n".join(turns).lower().encode(), digest_size=16).digest()
        if digest in held:
            continue
        held.add(digest)
        entry = (score, -place, digest)
        if len(heap) < keep:
            heapq.heappush(heap, entry)
        else:
            held.remove(heapq.heapreplace(heap, entry)[2])
    return sorted(-place for _, place, _ in heap)
