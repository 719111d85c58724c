"""Beam search finds what an exact search finds, batches change nothing, and no n-gram comes twice."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from dialog_envs.lm.decoding import Sampling
from dialog_envs.speakers.beam import Beams, beam_search, sample_replies

WORDS, BEGIN, END = 5, 0, 4  # 0 begins, 4 ends


class Toy:
    """Logits that hang on the row and on all that was said: drawn from a table with a hash of both."""

    def __init__(self, rows: list[int], seed: int = 0) -> None:
        self.rows, self.seed, self.said = rows, seed, [[()] for _ in rows]

    def logits(self, row: int, said: tuple[int, ...]) -> torch.Tensor:
        return torch.from_numpy(np.random.default_rng([self.seed, row, len(said), *said]).normal(0, 2, WORDS)).float()

    def __call__(self, tokens: torch.Tensor, parents: torch.Tensor | None) -> torch.Tensor:
        width = tokens.shape[1]
        parents = torch.arange(width).expand(len(self.rows), -1) if parents is None else parents
        self.said = [
            [(*self.said[n][parents[n, w]], int(tokens[n, w])) for w in range(width)] for n in range(len(self.rows))
        ]
        return torch.stack(
            [torch.stack([self.logits(row, s) for s in self.said[n]]) for n, row in enumerate(self.rows)]
        )


def repeats(said: tuple[int, ...], n: int) -> bool:
    grams = [said[i : i + n] for i in range(len(said) - n + 1)]
    return bool(n) and len(set(grams)) < len(grams)


def exact(row: int, longest: int, alpha: float, blocked: int, seed: int = 0) -> list[tuple[list[int], float]]:
    """Every reply there is, one by one, the best first."""
    toy, found = Toy([row], seed), []
    for length in range(1, longest + 1):
        for said in itertools.product(range(WORDS - 1), repeat=length):
            if repeats(said, blocked):
                continue
            total = 0.0
            for place, token in enumerate((*said, END)):
                total += float(toy.logits(row, (BEGIN, *said[:place])).log_softmax(-1)[token])
            found.append((list(said), total / (length + 1) ** alpha))
    return sorted(found, key=lambda each: -each[1])


def slow_beams(row: int, beams: Beams, seed: int = 0) -> list[tuple[list[int], float]]:
    """The paper's search of one reply, with lists."""
    toy = Toy([row], seed)
    going, ended = [((), 0.0)], []
    for length in range(1, beams.max_new_tokens + 2):
        options = []
        for said, total in going:
            log_probs = toy.logits(row, (BEGIN, *said)).log_softmax(-1)
            for token in range(WORDS):
                last = length > beams.max_new_tokens
                if (token == END and not said) or (last and token != END) or repeats((*said, token), beams.blocked):
                    continue
                options.append(((*said, token), total + float(log_probs[token])))
        options = sorted(options, key=lambda each: -each[1])[: beams.width - len(ended)]
        ended += [(list(said[:-1]), total / length**beams.alpha) for said, total in options if said[-1] == END]
        going = [each for each in options if each[0][-1] != END]
    return sorted(ended, key=lambda each: -each[1])


def same(found, expected) -> None:
    assert [ids for ids, _ in found] == [ids for ids, _ in expected]
    assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-4)


@pytest.mark.parametrize(("alpha", "blocked"), [(0.0, 0), (1.0, 0), (1.0, 2), (0.6, 1)])
def test_a_search_wide_enough_is_exact(alpha, blocked):
    rows = [3, 8]
    beams = Beams(width=2000, max_new_tokens=4, alpha=alpha, blocked=blocked)
    for row, found in zip(rows, beam_search(Toy(rows), 2, BEGIN, END, beams), strict=True):
        same(found, exact(row, 4, alpha, blocked))


@pytest.mark.parametrize("blocked", [0, 2])
@pytest.mark.parametrize("width", [1, 3, 7])
def test_a_narrow_search_is_the_papers(width, blocked):
    rows, beams = list(range(12)), Beams(width, max_new_tokens=7, blocked=blocked)
    for row, found in zip(rows, beam_search(Toy(rows), len(rows), BEGIN, END, beams), strict=True):
        same(found, slow_beams(row, beams))


def test_no_n_gram_comes_twice_and_no_reply_is_empty():
    rows = list(range(20))
    loop = torch.tensor([9.0, 5.0, -9.0, -9.0, 0.0])  # says 0 for ever, else 1
    for blocked in (0, 1, 2, 3):
        beams = Beams(2, max_new_tokens=8, blocked=blocked)
        searched = beam_search(lambda tokens, _: loop.expand(*tokens.shape, -1), 1, BEGIN, END, beams)[0]
        drawn = sample_replies(Toy(rows), torch.rand(20, 8), BEGIN, END, Sampling(8, 1.0, 0.0), blocked)
        for ids in [ids for ids, _ in searched] + drawn:
            assert ids and END not in ids and not repeats(tuple(ids), blocked)
    assert [0] * 8 in [ids for ids, _ in beam_search(
        lambda tokens, _: loop.expand(*tokens.shape, -1), 1, BEGIN, END, Beams(2, 8, blocked=0)
    )[0]]  # fmt: skip


def test_what_is_never_said_is_never_said():
    rows = list(range(10))
    never = torch.tensor([2, 0])
    drawn = sample_replies(Toy(rows), torch.rand(10, 6), BEGIN, END, Sampling(6, 1.0, 0.0), 0, never)
    found = beam_search(Toy(rows), 10, BEGIN, END, Beams(4, 6, blocked=0), never)
    assert not {0, 2} & {token for ids in [*drawn, *(ids for row in found for ids, _ in row)] for token in ids}


def test_samples_follow_the_probabilities():
    count = 4000
    logits = torch.tensor([-torch.inf, 1.0, 0.0, -1.0, 0.5])
    uniforms = torch.from_numpy(np.random.default_rng(0).random((count, 2))).float()
    drawn = sample_replies(
        lambda tokens, _: logits.expand(count, 1, -1), uniforms, BEGIN, END, Sampling(2, 1.0, 0.0), 0
    )
    odds = logits.softmax(-1)
    for token in (1, 2, 3):
        share = float(odds[token] / odds[1:4].sum())  # the first token is not the end
        assert np.mean([ids[0] == token for ids in drawn]) == pytest.approx(share, abs=4 * math.sqrt(0.25 / count))
    assert np.mean([len(ids) == 1 for ids in drawn]) == pytest.approx(float(odds[END]), abs=4 * math.sqrt(0.25 / count))


def test_settings_that_make_no_search_are_refused():
    for wrong in ({"width": 0}, {"max_new_tokens": 0}, {"blocked": -1}):
        with pytest.raises(ValueError, match="a search needs"):
            Beams(**wrong)
