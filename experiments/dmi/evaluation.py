"""What an encoder knows of dialogue: mutual information in bits, and how often it prefers the true response."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dialog_envs.corpora.dailydialogpp import ResponseSet
from experiments.dmi.pairs import Pair
from experiments.run_folder import ResultRow
from experiments.statistics import grouped_ci95, mean_ci95
from reward_models.dmi.bounds import BOUNDS
from reward_models.dmi.encoder import DialogueEncoder
from reward_models.dmi.reward import CoherenceReward

SIZE = 256  # pairs of a batch that mutual information is measured on, as in every number that is reported
CANDIDATES = 10


@dataclass(frozen=True)
class Vectors:
    """What an encoder makes of n pairs.

    Attributes:
        contexts: `(n, H)`.
        responses: `(n, H)`.
        dialogues: `(n,)` number of each pair's dialogue.
        texts: `(n,)` the responses' texts, numbered: equal texts have equal numbers.
    """

    contexts: Tensor
    responses: Tensor
    dialogues: np.ndarray
    texts: np.ndarray


def encode_pairs(encoder: DialogueEncoder, pairs: Sequence[Pair]) -> Vectors:
    """Encode pairs."""
    responses = [pair.response for pair in pairs]
    return Vectors(
        encoder.encode_contexts([pair.context for pair in pairs]),
        encoder.encode_responses(responses),
        np.array([pair.dialogue for pair in pairs]),
        np.unique(responses, return_inverse=True)[1],
    )


@torch.no_grad()
def information_bits(
    encoder: DialogueEncoder, vectors: Vectors, rng: np.random.Generator, bound: str = "infonce", size: int = SIZE
) -> np.ndarray:
    """Return a bound's estimate in bits on each whole batch of `size` pairs, every pair in one batch at most.

    With `infonce` it is the paper's MI = log N - L_N, at most log2 of `size`.

    Raises:
        ValueError: there are fewer pairs than a batch.
    """
    n = len(vectors.contexts)
    if n < size:
        raise ValueError(f"{n} pairs, mutual information is measured on batches of {size}")
    order = torch.from_numpy(rng.permutation(n)[: n // size * size]).reshape(-1, size)
    matrices = (encoder.similarity(vectors.contexts[rows], vectors.responses[rows]) for rows in order)
    return np.array([float(BOUNDS[bound].estimate(matrix)) / math.log(2) for matrix in matrices])


@torch.no_grad()
def ranks(
    encoder: DialogueEncoder, vectors: Vectors, rng: np.random.Generator, candidates: int = CANDIDATES
) -> np.ndarray:
    """Return the rank, from 0, of each context's response `(n,)` among `candidates`: itself and random other responses.

    The others are drawn from other dialogues and are other texts; of two equal scores half a rank is counted.
    """
    n = len(vectors.contexts)
    true = _scores(encoder, vectors, np.arange(n)[:, None])
    false = _scores(encoder, vectors, _others(vectors, candidates - 1, rng))
    return (false > true).sum(1) + 0.5 * (false == true).sum(1)


def preferred(
    score: Callable[[Sequence[Sequence[str]], Sequence[str]], np.ndarray], sets: Sequence[ResponseSet], kind: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return how often a positive response scores above one of `kind`, in each context that has both, and the contexts.

    Args:
        score: contexts and as many responses -> one number each.
        sets: contexts with their responses.
        kind: "adversarial" or "random".
    """
    chosen = [i for i, responses in enumerate(sets) if responses.positive and getattr(responses, kind)]
    texts = [(*sets[i].positive, *getattr(sets[i], kind)) for i in chosen]
    contexts = [sets[i].context for i, of_one in zip(chosen, texts, strict=True) for _ in of_one]
    values = iter(score(contexts, [text for of_one in texts for text in of_one]))
    shares = []
    for i, of_one in zip(chosen, texts, strict=True):
        better, worse = np.split(np.array([next(values) for _ in of_one]), [len(sets[i].positive)])
        shares.append(((better[:, None] > worse) + 0.5 * (better[:, None] == worse)).mean())
    return np.array(shares), np.array(chosen)


def evaluate(
    encoder: DialogueEncoder,
    pairs: Sequence[Pair],
    sets: Sequence[ResponseSet],
    system: str,
    bound: str = "infonce_s",
    seed: int = 0,
) -> list[ResultRow]:
    """Measure an encoder on validation pairs and, where there are any, DailyDialog++'s responses.

    Mutual information is measured by `infonce`, `infonce_s` and, where it is another, the `bound` that was maximised.
    Intervals of bits are over batches, the others over dialogues or contexts, which answers of one are not independent
    within.
    """
    encoder.eval()
    rng = np.random.default_rng([seed, 7])
    vectors = encode_pairs(encoder, pairs)
    rows = []
    for name in dict.fromkeys(("infonce", "infonce_s", bound)):
        values = information_bits(encoder, vectors, rng, name)
        metric = f"mi_bits_n{SIZE}" if name == "infonce" else f"mi_bits_{name}_n{SIZE}"
        rows.append(ResultRow(system, metric, *mean_ci95(values), len(values) * SIZE, 1))
    rank = ranks(encoder, vectors, rng)
    above = 1 - ranks(encoder, vectors, rng, 2)
    measures = {f"r@1_of_{CANDIDATES}": rank == 0, f"mrr_of_{CANDIDATES}": 1 / (1 + rank), "true_above_random": above}
    for name, values in measures.items():
        rows.append(ResultRow(system, name, *grouped_ci95(values, vectors.dialogues), len(rank), 1))
    return rows + _preferences(lambda *pairs: _pair_scores(encoder, *pairs), sets, system)


def evaluate_reward(reward: CoherenceReward, sets: Sequence[ResponseSet]) -> list[ResultRow]:
    """Return what the calibration measured on contexts held out from it, and preferences in DailyDialog++."""
    of = reward.calibration
    measures = {
        "true_above_random": of.accuracy,
        "brier": of.reliability.brier,
        "calibration_error": of.reliability.calibration_error,
    }
    rows = [ResultRow("coherence", name, value, None, of.pairs, 1) for name, value in measures.items()]
    return rows + _preferences(reward.score_batch, sets, "coherence")


def _preferences(score: Callable[..., np.ndarray], sets: Sequence[ResponseSet], system: str) -> list[ResultRow]:
    rows = []
    for kind in ("adversarial", "random"):
        values, contexts = preferred(score, sets, kind)
        if len(values):
            rows.append(ResultRow(system, f"dd++_true_above_{kind}", *grouped_ci95(values, contexts), len(values), 1))
    return rows


@torch.no_grad()
def _pair_scores(encoder: DialogueEncoder, contexts: Sequence[Sequence[str]], responses: Sequence[str]) -> np.ndarray:
    vectors = encoder.encode_contexts(contexts), encoder.encode_responses(responses)
    return encoder.pair_similarity(*vectors).cpu().numpy()


def _scores(encoder: DialogueEncoder, vectors: Vectors, columns: np.ndarray) -> np.ndarray:
    """Return f of each context and some responses `(n, k)`, given by their places `(n, k)`."""
    rows = []
    for begin in range(0, len(columns), 1024):
        matrix = encoder.similarity(vectors.contexts[begin : begin + 1024], vectors.responses)
        rows.append(matrix.gather(1, torch.from_numpy(columns[begin : begin + 1024])).float().numpy())
    return np.concatenate(rows)


def _others(vectors: Vectors, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw for each pair the places `(n, count)` of other dialogues' responses with other texts."""
    n = len(vectors.dialogues)
    drawn = rng.integers(n, size=(n, count))
    for _ in range(100):
        same = vectors.dialogues[drawn] == vectors.dialogues[:, None]
        same |= vectors.texts[drawn] == vectors.texts[:, None]
        if not same.any():
            return drawn
        drawn[same] = rng.integers(n, size=int(same.sum()))
    raise ValueError("the pairs are all of one dialogue, or have one response: there are no random others to draw")
