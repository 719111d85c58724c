"""Measures of an encoder, against values worked out by hand or in a slow, obvious way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dialog_envs.corpora.dailydialogpp import ResponseSet
from experiments.dmi import evaluation
from experiments.dmi.evaluation import Vectors
from experiments.dmi.pairs import Pair


class Dot:
    """Stands for an encoder whose vectors are given and whose f is the dot product."""

    def __init__(self, table: dict[str, list[float]] | None = None) -> None:
        self.table = table

    def eval(self) -> Dot:
        return self

    def similarity(self, contexts, responses):
        return contexts @ responses.T

    def encode_contexts(self, contexts):
        return torch.tensor([self.table[context[-1]] for context in contexts])

    def encode_responses(self, responses):
        return torch.tensor([self.table[response] for response in responses])


def vectors(n: int, scale: float, seed: int = 0) -> Vectors:
    generator = torch.Generator().manual_seed(seed)
    contexts = torch.eye(n)
    return Vectors(
        contexts, scale * contexts + 0.1 * torch.randn(n, n, generator=generator), np.arange(n), np.arange(n)
    )


def test_information_of_a_perfect_encoder_is_the_ceiling():
    bits = evaluation.information_bits(Dot(), vectors(512, 100.0), np.random.default_rng(0))
    assert bits == pytest.approx([8.0, 8.0], abs=1e-3)


def test_information_is_log_n_minus_the_cross_entropy():
    given = vectors(8, 2.0)
    (bits,) = evaluation.information_bits(Dot(), given, np.random.default_rng(0), size=8)
    matrix = given.contexts @ given.responses.T
    nats = math.log(8) - torch.nn.functional.cross_entropy(matrix, torch.arange(8))
    assert bits == pytest.approx(float(nats) / math.log(2), abs=1e-5)


def test_information_needs_a_whole_batch():
    with pytest.raises(ValueError, match="100 pairs, mutual information is measured on batches of 256"):
        evaluation.information_bits(Dot(), vectors(100, 1.0), np.random.default_rng(0))


def test_information_of_an_encoder_that_knows_nothing_is_not_above_zero():
    n = 512
    generator = torch.Generator().manual_seed(0)
    random = Vectors(
        torch.randn(n, 16, generator=generator), torch.randn(n, 16, generator=generator), np.arange(n), np.arange(n)
    )
    assert evaluation.information_bits(Dot(), random, np.random.default_rng(0)).max() < 0


def test_ranks_count_what_scores_above_the_true_response():
    n, candidates = 40, 10
    given = vectors(n, 0.1)
    places = evaluation._others(given, candidates - 1, np.random.default_rng(5))
    found = evaluation.ranks(Dot(), given, np.random.default_rng(5), candidates)
    for row in range(n):
        scores = [float(given.contexts[row] @ given.responses[place]) for place in places[row]]
        assert found[row] == sum(score > float(given.contexts[row] @ given.responses[row]) for score in scores)
    assert 0 < found.mean() < 9


def test_ties_count_half():
    constant = Vectors(torch.ones(20, 2), torch.ones(20, 2), np.arange(20), np.arange(20))
    assert evaluation.ranks(Dot(), constant, np.random.default_rng(0), 2) == pytest.approx(0.5)


def test_others_are_of_other_dialogues_and_other_texts():
    dialogues, texts = np.repeat(np.arange(10), 4), np.arange(40) % 6
    drawn = evaluation._others(Vectors(torch.eye(40), torch.eye(40), dialogues, texts), 9, np.random.default_rng(0))
    assert (dialogues[drawn] != dialogues[:, None]).all()
    assert (texts[drawn] != texts[:, None]).all()
    with pytest.raises(ValueError, match="all of one dialogue"):
        evaluation._others(Vectors(torch.eye(3), torch.eye(3), np.zeros(3), np.arange(3)), 1, np.random.default_rng(0))


def test_preferred_is_the_share_of_pairs_in_a_context():
    values = {"p1": 3.0, "p2": 1.0, "n1": 2.0, "n2": 1.0}
    asked = []

    def score(contexts, responses):
        asked.extend(zip(contexts, responses, strict=True))
        return np.array([values[response] for response in responses])

    sets = [ResponseSet(("c",), ("p1",)), ResponseSet(("c",), ("p1", "p2"), adversarial=("n1", "n2"))]
    shares, contexts = evaluation.preferred(score, sets, "adversarial")
    assert shares == pytest.approx([(1 + 1 + 0 + 0.5) / 4])
    assert contexts.tolist() == [1]
    assert asked == [(("c",), text) for text in ("p1", "p2", "n1", "n2")]


def test_the_encoders_preferences_are_those_of_f(encoder):
    sets = [ResponseSet(("Do you like boats?",), ("Yes.", "No."), random=("Maybe.",))]
    (row,) = evaluation._preferences(lambda *pairs: evaluation._pair_scores(encoder, *pairs), sets * 2, "dmi")
    matrix = encoder.scores([sets[0].context], ["Yes.", "No.", "Maybe."])[0]
    assert row.metric == "dd++_true_above_random"
    assert row.value == pytest.approx(float((matrix[:2] > matrix[2]).float().mean()))


def test_equal_responses_have_equal_vectors(encoder):
    valid = [Pair(("Hi.",), "Yes.", 0), Pair(("Who?",), "No.", 1), Pair(("So?",), "Yes.", 2)]
    made = evaluation.encode_pairs(encoder, valid)
    assert made.texts[0] == made.texts[2] != made.texts[1]
    assert torch.equal(made.responses[0], made.responses[2])
    assert torch.allclose(made.responses[1], encoder.encode_responses(["No."])[0], atol=1e-5)
    assert torch.allclose(made.contexts[1], encoder.encode_contexts([("Who?",)])[0], atol=1e-5)
