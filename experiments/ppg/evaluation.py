"""What a system answers in each exchange, how probable the true answer is to it, and what the critics say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from scipy import stats

from agents.exchanges import Critic, Draws, Exchange, dice_of, generate, judge, labels, nats_of, roll_out
from dialog_envs.speakers.ppg import PersonasGenerator, ResponseGenerator
from experiments.language import distinct
from experiments.ppg.data import TraitRanker
from experiments.ppg.supervised import partner_personas
from experiments.ppg.systems import GENERATED, OURS, SYSTEMS
from experiments.run_folder import ResultRow, write_json
from experiments.statistics import crossed_ci95, half_width, mean_ci95

DICE = 2  # the stream of dice; REINFORCE has 0 and 1
CRITICS = ("critic", "second_critic")
Metric = Callable[["Answers", np.ndarray], float]  # of some rows, as a whole
BLOCKS = 20  # of the jackknife


@dataclass(frozen=True)
class Answers:
    """What one system answered in N exchanges.

    Attributes:
        told: what the response generator was told of the partner, empty for nothing.
        responses: what was said.
        nats: -log P of the true response, and its `tokens`.
        persona_nats: -log P of the partner's true persona, and its `persona_tokens`; NaN where none is generated.
        critic: label of each response, +1 or -1, NaN where the critic failed; `second_critic` the other one's.
    """

    told: Sequence[str]
    responses: Sequence[str]
    nats: Sequence[float]
    tokens: Sequence[float]
    persona_nats: Sequence[float]
    persona_tokens: Sequence[float]
    critic: Sequence[float]
    second_critic: Sequence[float]

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> Answers:
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text()))


def answer(
    response: ResponseGenerator,
    personas: PersonasGenerator | None,
    told: str,
    exchanges: Sequence[Exchange],
    ranker: TraitRanker,
    critics: Mapping[str, Critic],
    draws: Draws,
    seed: int,
) -> Answers:
    """Let a system answer.

    Args:
        response: writes the responses.
        personas: writes the partner's persona, where `told` is `generated`.
        told: what the response generator is told (see `System`).
        exchanges: N of them.
        ranker: ranks the partner's true traits.
        critics: by the names in `CRITICS`.
        draws: how tokens are drawn.
        seed: of the dice.
    """
    seeds = [(seed, DICE, row) for row in range(len(exchanges))]
    persona_nats = persona_tokens = np.full(len(exchanges), np.nan)
    if told == GENERATED:
        rollout = roll_out(personas, response, exchanges, seeds, draws)
        known, prompts, said = rollout.personas, rollout.response_prompts, rollout.responses
        true = personas.encode([exchange.partner_persona for exchange in exchanges])
        persona_nats, persona_tokens = nats_of(personas, rollout.persona_prompts, true)
    else:
        known = partner_personas(told, exchanges, ranker)
        prompts = response.prompts([e.dialogue for e in exchanges], [e.speaker for e in exchanges], known)
        dice = dice_of(seeds, draws.persona.max_new_tokens + draws.response.max_new_tokens)
        ids = generate(response, prompts, dice[:, draws.persona.max_new_tokens :], draws.response)
        said = response.decode(ids)
    nats, tokens = nats_of(response, prompts, response.encode([exchange.response for exchange in exchanges]))
    judged = [labels(judge(critics[name], exchanges, said)) for name in CRITICS]
    columns = (nats, tokens, persona_nats, persona_tokens, *judged)
    return Answers([text or "" for text in known], list(said), *(column.tolist() for column in columns))


def measure(
    label: str, answers: Sequence[Answers], exchanges: Sequence[Exchange], groups: np.ndarray
) -> list[ResultRow]:
    """Return the rows of one system's seeds; intervals cover exchanges (dependent within a group) and seeds."""
    true, personas = [e.response for e in exchanges], [e.partner_persona for e in exchanges]
    corpus: dict[str, Metric] = {
        "perplexity": perplexity,
        "bleu": lambda a, rows: bleu(a.responses, true, rows),
        "distinct_1": lambda a, rows: distinct(_at(a.responses, rows), 1),
        "distinct_2": distinct_2,
    }
    single = {
        "rouge_l": np.array([rouge_l(a.responses, true) for a in answers]),
        **{f"{critic}_reward": labels_of(answers, critic) for critic in CRITICS},
        "words": np.array([[len(text.split()) for text in a.responses] for a in answers], dtype=float),
    }
    if np.isfinite(answers[0].persona_nats).all():
        corpus["persona_perplexity"] = lambda a, rows: perplexity(a, rows, "persona_")
    if any(answers[0].told):
        corpus["persona_bleu"] = lambda a, rows: bleu(a.told, personas, rows)
        corpus["persona_distinct_1"] = lambda a, rows: distinct(_at(a.told, rows), 1)
        corpus["persona_distinct_2"] = lambda a, rows: distinct(_at(a.told, rows), 2)
        single["persona_rouge_l"] = np.array([rouge_l(a.told, personas) for a in answers])
    found = {name: judged_ci95(values, groups) for name, values in single.items()}
    for name, value in corpus.items():
        found[name] = corpus_ci95(lambda rows, value=value: [value(a, rows) for a in answers], groups)
    return _rows(label, found, len(answers))


def corpus_ci95(value: Callable[[np.ndarray], Sequence[float]], groups: np.ndarray) -> tuple[float, float, int]:
    """Return mean over seeds, half the 95% interval and N of a measure of whole corpora (BLEU, say).

    The interval is the wider one of that over seeds and that over exchanges, a jackknife over blocks of groups
    (Quenouille, Biometrika 1956).

    Args:
        value: which of the N exchanges -> the measure of each seed.
        groups: which exchanges are not independent, as of `grouped_ci95`.
    """
    n = len(groups)
    mean, over_seeds = mean_ci95(value(np.arange(n)))

    def error(member: np.ndarray) -> float:
        count = member.max() + 1
        block = (np.random.default_rng(0).permutation(count) % BLOCKS)[member]
        without = [np.mean(value(np.flatnonzero(block != left))) for left in range(min(BLOCKS, count))]
        return (len(without) - 1) * stats.sem(without)

    return mean, float(np.fmax(half_width(error, groups, BLOCKS), over_seeds)), n


def perplexity(answers: Answers, rows: np.ndarray, of: str = "") -> float:
    """Return the perplexity of the true responses (or, `of="persona_"`, personas) over all tokens of some rows."""
    nats, tokens = (np.asarray(getattr(answers, f"{of}{name}"))[rows].sum() for name in ("nats", "tokens"))
    return float(np.exp(nats / tokens))


def distinct_2(answers: Answers, rows: np.ndarray) -> float:
    """Return Distinct-2 of the responses of some rows."""
    return distinct(_at(answers.responses, rows))


def bleu(said: Sequence[str], true: Sequence[str], rows: np.ndarray) -> float:
    """Return sacrebleu's BLEU of some rows, without regard to case."""
    return sacrebleu.BLEU(lowercase=True).corpus_score(_at(said, rows), [_at(true, rows)]).score


def labels_of(answers: Sequence[Answers], critic: str) -> np.ndarray:
    """Return a critic's labels `(seeds, N)`, NaN where it failed."""
    return np.array([getattr(a, critic) for a in answers], dtype=float)


def judged_ci95(values: np.ndarray, groups: np.ndarray) -> tuple[float, float, int]:
    """Return mean, half the 95% interval and the number of exchanges that no critic failed in."""
    return *crossed_ci95(values, groups), int((~np.isnan(values).any(0)).sum())


def rouge_l(said: Sequence[str], true: Sequence[str]) -> list[float]:
    """Return ROUGE-L's F of each text, in [0, 1]."""
    scorer = RougeScorer(["rougeL"])
    return [scorer.score(target, text)["rougeL"].fmeasure for target, text in zip(true, said, strict=True)]


def gains(answers: Mapping[str, Sequence[Answers]], groups: np.ndarray) -> list[ResultRow]:
    """Return what REINFORCE changed, seed by seed and exchange by exchange, against the same seeds without it.

    Of rewards the difference; of perplexity and Distinct-2 the relative change, with / without - 1.

    Args:
        answers: by system, those of its seeds; seed by seed as those of `ours`.
        groups: which exchanges are not independent.
    """
    rows = []
    for name in answers:
        if SYSTEMS[name].reinforce is None:
            continue
        pairs = list(zip(answers[name], answers[OURS], strict=False))
        after, before = zip(*pairs, strict=True)
        found = {
            f"{critic}_reward_gain": judged_ci95(labels_of(after, critic) - labels_of(before, critic), groups)
            for critic in CRITICS
        }
        for metric, value in (("perplexity", perplexity), ("distinct_2", distinct_2)):
            found[f"{metric}_change"] = corpus_ci95(partial(_changes, value, pairs), groups)
        rows += _rows(SYSTEMS[name].label, found, len(pairs))
    return rows


def by_seed(answers: Sequence[Answers], exchanges: Sequence[Exchange]) -> dict[str, list[float]]:
    """Return perplexity, ROUGE-L and the critic's mean label of each seed."""
    true = [exchange.response for exchange in exchanges]
    return {
        "perplexity": [perplexity(a, np.arange(len(true))) for a in answers],
        "rouge_l": [float(np.mean(rouge_l(a.responses, true))) for a in answers],
        "critic_reward": [float(np.nanmean(a.critic)) for a in answers],
    }


def _at(texts: Sequence[str], rows: np.ndarray) -> list[str]:
    return [texts[row] for row in rows]


def _changes(value: Metric, pairs: Sequence[tuple[Answers, Answers]], rows: np.ndarray) -> list[float]:
    """Return the relative change of each seed; NaN where it was 0 before."""
    both = [(value(after, rows), value(before, rows)) for after, before in pairs]
    return [after / before - 1 if before else float("nan") for after, before in both]


def _rows(label: str, found: Mapping[str, tuple[float, float, int]], seeds: int) -> list[ResultRow]:
    return [
        ResultRow(label, metric, mean, float(half) if np.isfinite(half) else None, n, seeds)
        for metric, (mean, half, n) in found.items()
    ]
