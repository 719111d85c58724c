"""What a system of one seed foretells and answers on a set, how probable the true answers are, and the measures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from sklearn.metrics import precision_recall_fscore_support
from torch.nn import functional as F
from tqdm import tqdm

from dialog_envs.speakers.beam import Beams, beam_search
from dialog_envs.speakers.meed2_model import EmotionPredictor, Responder, Writer
from experiments.language import distinct
from experiments.meed2.data import IGNORED, Pairs
from experiments.ppg.evaluation import corpus_ci95, judged_ci95
from experiments.run_folder import ResultRow
from reward_models.dmi.encoder import DialogueEncoder

MEASURED_TOGETHER = 64  # pairs
SEARCHED_TOGETHER = 16
WEIGHTED = ("precision", "recall", "f1")


@dataclass(frozen=True)
class Answers:
    """What one system made of N pairs.

    Attributes:
        nats: -log P of each true response, whose true emotion is told, and its `tokens`.
        predicted_nats: the same where the foretold emotion is told; as `nats` where nothing is foretold.
        predicted: id of the foretold emotion; empty where nothing is.
        replies: what was answered, with the foretold emotion.
        replied: the classifier's id of each reply.
    """

    nats: Sequence[float]
    tokens: Sequence[int]
    predicted_nats: Sequence[float]
    predicted: Sequence[int]
    replies: Sequence[str]
    replied: Sequence[int]


@torch.no_grad()
def nats_of(responder: Responder, chosen: Pairs, emotions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return -log P of each true response `(n,)`, told these emotions `(n,)`, and the number of its tokens."""
    nats, tokens = np.zeros(len(chosen)), np.zeros(len(chosen), dtype=int)
    longest, device = responder.config.max_tokens, responder.bias.device
    for rows in _batches(len(chosen), MEASURED_TOGETHER):
        batch = chosen.at(rows)
        given, wanted = (ids.to(device) for ids in batch.replies(longest))
        logits = responder(batch.contexts(longest).to(device), given, torch.from_numpy(emotions[rows]).to(device))
        lost = F.cross_entropy(logits.transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none")
        nats[rows], tokens[rows] = lost.sum(1).cpu().numpy(), (wanted != IGNORED).sum(1).cpu().numpy()
    return nats, tokens


@torch.no_grad()
def predict(predictor: EmotionPredictor, chosen: Pairs) -> np.ndarray:
    """Return the probabilities `(n, 41)` of the responses' emotions."""
    longest, device = predictor.config.max_tokens, predictor.scorer.device
    parts = [predictor(chosen.at(rows).contexts(longest).to(device)).softmax(-1) for rows in _batches(len(chosen), 128)]
    return torch.cat(parts).cpu().numpy()


def replies_of(
    responder: Responder, chosen: Pairs, emotions: np.ndarray, beams: Beams, tokenizer, label: str | None = None
) -> list[str]:
    """Return the best replies of a search, told these emotions."""
    never = torch.tensor([token for token in tokenizer.all_special_ids if token != chosen.end])
    device = responder.bias.device
    found = []
    for rows in tqdm(_batches(len(chosen), SEARCHED_TOGETHER), desc=label, unit="search", disable=label is None):
        with torch.no_grad():
            context = chosen.at(rows).contexts(responder.config.max_tokens).to(device)
            writer = Writer(responder, context, torch.from_numpy(emotions[rows]).to(device))
        searched = beam_search(writer, len(rows), chosen.begin, chosen.end, beams, never)
        found += [hypotheses[0][0] for hypotheses in searched]
    return [text.strip() for text in tokenizer.batch_decode(found, skip_special_tokens=True)]


def measure(
    system: str, name: str, answers: Sequence[Answers], chosen: Pairs, encoder: DialogueEncoder
) -> list[ResultRow]:
    """Return the rows of one system's seeds on one set; intervals cover seeds, and dialogues with all their responses.

    Args:
        system: its name.
        name: of the set; metrics are called `name/metric`.
        answers: of each seed.
        chosen: the pairs.
        encoder: gives sentences' vectors.
    """
    groups = chosen.index[:, 0]
    values = {
        "perplexity": partial(perplexity, "nats"),
        "distinct_1": lambda a, rows: distinct([a.replies[i] for i in rows], 1),
        "distinct_2": lambda a, rows: distinct([a.replies[i] for i in rows], 2),
    }
    if len(answers[0].predicted):
        values["perplexity_predicted"] = partial(perplexity, "predicted_nats")
        values |= {f"weighted_{what}": partial(_weighted, i, chosen.emotions) for i, what in enumerate(WEIGHTED)}
    found = {
        metric: corpus_ci95(lambda rows, value=value: [value(a, rows) for a in answers], groups)
        for metric, value in values.items()
    }
    close = np.array([similarity(encoder, a.replies, chosen.responses) for a in answers])
    found["similarity"] = judged_ci95(close, groups)
    return [
        ResultRow(system, f"{name}/{metric}", value, float(half) if np.isfinite(half) else None, n, len(answers))
        for metric, (value, half, n) in found.items()
    ]


def perplexity(which: str, answers: Answers, rows: np.ndarray) -> float:
    """Return the perplexity of some true responses over all their tokens."""
    return float(np.exp(np.asarray(getattr(answers, which))[rows].sum() / np.asarray(answers.tokens)[rows].sum()))


def perplexity_change(
    system: str, name: str, ours: Sequence[Answers], theirs: Sequence[Answers], groups: np.ndarray
) -> list[ResultRow]:
    """Return the relative change of perplexity, ours / theirs - 1, seed by seed and response by response."""
    rows = []
    for which in ("nats", "predicted_nats"):
        pairs = list(zip(ours, theirs, strict=True))

        def change(chosen: np.ndarray, which: str = which, pairs: list = pairs) -> list[float]:
            return [perplexity(which, a, chosen) / perplexity("nats", b, chosen) - 1 for a, b in pairs]

        value, half, n = corpus_ci95(change, groups)
        metric = f"{name}/perplexity{'_predicted' if which != 'nats' else ''}_change"
        rows.append(ResultRow(system, metric, value, float(half) if np.isfinite(half) else None, n, len(ours)))
    return rows


def similarity(encoder: DialogueEncoder, replies: Sequence[str], responses: Sequence[str]) -> np.ndarray:
    """Return the cosine `(n,)` of each reply's and its true response's vector, less the mean of all true responses'."""
    true = encoder.encode_responses(responses)
    middle = true.mean(0)
    return F.cosine_similarity(encoder.encode_responses(replies) - middle, true - middle).double().numpy()


def _weighted(which: int, true: np.ndarray, answers: Answers, rows: np.ndarray) -> float:
    predicted = np.asarray(answers.predicted)[rows]
    return float(precision_recall_fscore_support(true[rows], predicted, average="weighted", zero_division=0.0)[which])


def _batches(count: int, size: int) -> list[np.ndarray]:
    return [np.arange(first, min(first + size, count)) for first in range(0, count, size)]
