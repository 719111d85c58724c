"""Accuracy of initiatives, BLEU-1 and -4, ROUGE-1 and -L of responses, with intervals; gains over a baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from dialog_envs.corpora.initiative import InitiativeTurn
from experiments.idpt.systems import Answer
from experiments.ppg.evaluation import corpus_ci95
from experiments.run_folder import ResultRow
from experiments.statistics import crossed_ci95

ROUGES = {"rouge_1": "rouge1", "rouge_l": "rougeL"}
BLEUS = {"bleu_1": 1, "bleu_4": 4}
METRICS = ("accuracy", *BLEUS, *ROUGES)


def measure(system: str, answers: Sequence[Answer], turns: Sequence[InitiativeTurn]) -> list[ResultRow]:
    """Return the rows of one system's seeds; intervals cover turns (dependent within a dialogue) and seeds.

    Args:
        system: what stands in the rows.
        answers: one a seed.
        turns: what was to be said.
    """
    found = {}
    if answers[0].initiatives is not None:
        labels = np.array([turn.initiative for turn in turns])
        right = np.array([answer.initiatives == labels for answer in answers], dtype=float)
        found["accuracy"] = crossed_ci95(right, groups(turns))
    found |= {metric: corpus_ci95(_bleus(answers, turns, n), groups(turns))[:2] for metric, n in BLEUS.items()}
    found |= {metric: crossed_ci95(rouges(answers, turns, metric), groups(turns)) for metric in ROUGES}
    return _rows(system, found, len(turns), len(answers))


def gains(
    system: str, answers: Sequence[Answer], others: Sequence[Answer], turns: Sequence[InitiativeTurn]
) -> list[ResultRow]:
    """Return a system's BLEU-4 and ROUGE-L less another's, seed by seed and turn by turn."""
    ours, theirs = _bleus(answers, turns, 4), _bleus(others, turns, 4)
    bleu = corpus_ci95(lambda rows: np.subtract(ours(rows), theirs(rows)).tolist(), groups(turns))[:2]
    rouge = crossed_ci95(rouges(answers, turns, "rouge_l") - rouges(others, turns, "rouge_l"), groups(turns))
    return _rows(system, {"bleu_4_gain": bleu, "rouge_l_gain": rouge}, len(turns), len(answers))


def by_seed(answers: Sequence[Answer], turns: Sequence[InitiativeTurn]) -> dict[str, list[float]]:
    """Return BLEU-4 and ROUGE-L of each seed."""
    rouge = rouges(answers, turns, "rouge_l").mean(1).tolist()
    return {"bleu_4": _bleus(answers, turns, 4)(np.arange(len(turns))), "rouge_l": rouge}


def groups(turns: Sequence[InitiativeTurn]) -> np.ndarray:
    """Return the dialogue `(N,)` of each turn."""
    return np.array([turn.place[0] for turn in turns])


def rouges(answers: Sequence[Answer], turns: Sequence[InitiativeTurn], metric: str) -> np.ndarray:
    """Return ROUGE-1's or -L's F `(seeds, N)` of each response, in [0, 100]."""
    kind = ROUGES[metric]
    scorer = RougeScorer([kind])
    true = [turn.response for turn in turns]
    pairs = [zip(true, answer.responses, strict=True) for answer in answers]
    return np.array([[100 * scorer.score(*pair)[kind].fmeasure for pair in of_seed] for of_seed in pairs])


def _bleus(
    answers: Sequence[Answer], turns: Sequence[InitiativeTurn], order: int
) -> Callable[[np.ndarray], list[float]]:
    """Return a function: which turns -> BLEU of each seed on them, without regard to case, in [0, 100]."""
    metric = sacrebleu.BLEU(lowercase=True, max_ngram_order=order, effective_order=True)

    def counts(said: str, turn: InitiativeTurn) -> list[int]:
        found = metric.sentence_score(said, [turn.response])
        return [*found.counts, *found.totals, found.sys_len, found.ref_len]

    # (seeds, N, 2 * order + 2): a corpus's BLEU is that of its sentences' sums
    each = np.array([list(map(counts, answer.responses, turns)) for answer in answers])

    def of(rows: np.ndarray) -> list[float]:
        sums = each[:, rows].sum(1).tolist()
        return [
            metric.compute_bleu(of_seed[:order], of_seed[order:-2], *of_seed[-2:], "exp", max_ngram_order=order).score
            for of_seed in sums
        ]

    return of


def _rows(system: str, found: Mapping[str, tuple[float, float]], n: int, seeds: int) -> list[ResultRow]:
    return [
        ResultRow(system, metric, value, half if np.isfinite(half) else None, n, seeds)
        for metric, (value, half) in found.items()
    ]
