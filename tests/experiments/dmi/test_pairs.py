"""Pairs: every utterance but the first is a response, what is measured on is left out, batches of one corpus resume."""

from __future__ import annotations

import numpy as np
import pytest

from dialog_envs.dialogue import Dialogue, Turn
from experiments.dmi import pairs
from experiments.dmi.pairs import PairSet, PairStream

WEIGHTS = {"a": 3.0, "b": 1.0}


def dialogues(name: str, count: int, turns: int = 3) -> list[Dialogue]:
    return [Dialogue(tuple(Turn("xy"[j % 2], f"{name} {i} {j}") for j in range(turns))) for i in range(count)]


@pytest.fixture
def stream(encoder):
    sets = {name: pairs.tokenize(dialogues(name, count), encoder.tokens) for name, count in (("a", 9), ("b", 4))}
    return lambda seed=0: PairStream(sets, WEIGHTS, 4, seed)


def test_every_utterance_but_the_first_is_a_response(encoder):
    made = pairs.tokenize(dialogues("a", 2, 4), encoder.tokens)
    assert made.index.tolist() == [[d, t] for d in (0, 1) for t in (1, 2, 3)]
    assert made.turns[1][3].tolist() == list(encoder.tokens.utterances(["a 1 3"])[0])


def test_what_is_measured_on_is_left_out(data):
    kept, removed = pairs.read_training(data)
    assert (len(kept["dailydialog"]), len(kept["personachat"]), removed) == (150, 60, 1)
    said = {turn.text for group in kept.values() for dialogue in group for turn in dialogue.turns}
    assert "Hm." not in said


def test_validation_pairs_know_their_dialogue(data):
    valid = pairs.validation_pairs(data)
    assert len(valid) == 300
    assert [(len(pair.context), pair.dialogue) for pair in valid[:4]] == [(1, 0), (2, 0), (3, 0), (1, 1)]
    assert valid[2].context[-1] != valid[2].response


def test_a_batch_is_of_one_corpus_and_sorted_by_length(encoder):
    """The two corpora share no token and have contexts of many lengths, whatever a tokenizer would make of text."""
    lengths = np.random.default_rng(0).permutation(np.arange(1, 41))
    sets = {
        name: PairSet([[np.full(n, token), np.array([token])] for n in lengths], np.array([[i, 1] for i in range(40)]))
        for name, token in (("a", 7), ("b", 8))
    }
    drawn = PairStream(sets, WEIGHTS, 8, 0)
    seen = set()
    for step in range(20):
        contexts, responses = drawn.draw(step, encoder.tokens)
        tokens = {ids[1] for ids in (*contexts, *responses)}
        assert len(tokens) == 1
        seen |= tokens
        sizes = [len(ids) for ids in contexts]
        assert sizes == sorted(sizes) and len(set(sizes)) == 8
    assert seen == {7, 8}


def test_a_corpus_is_gone_through_before_it_is_begun_again(stream, encoder):
    drawn = stream()
    seen = []
    for step in range(40):
        before = dict(drawn.positions)
        contexts, responses = drawn.draw(step, encoder.tokens)
        if drawn.positions["a"] > before["a"]:
            seen += [(*c, -1, *r) for c, r in zip(contexts, responses, strict=True)]
    for begin in range(0, 32, 16):  # 18 pairs, of which a round of four batches takes 16
        assert len(set(seen[begin : begin + 16])) == 16
    assert len(set(seen)) == 18


def test_positions_and_seed_are_the_whole_state(stream, encoder):
    first, second = stream(), stream()
    drawn = [first.draw(step, encoder.tokens) for step in range(7)]
    second.positions = {"a": 0, "b": 0}
    for step in range(4):
        second.draw(step, encoder.tokens)
    third = stream()
    third.positions = dict(second.positions)
    assert [third.draw(step, encoder.tokens) for step in range(4, 7)] == drawn[4:]
    assert stream(1).draw(0, encoder.tokens) != drawn[0]


def test_word_dropout_thins_utterances_anew_each_time_and_empties_none(encoder):
    said = [np.arange(100, 140), np.array([7]), np.arange(200, 240)]
    sets = {"a": PairSet([said], np.array([[0, 1], [0, 2]] * 4))}
    whole = PairStream(sets, {"a": 1.0}, 8, 0).draw(0, encoder.tokens)
    thinned = [PairStream(sets, {"a": 1.0}, 8, 0, 0.5).draw(step, encoder.tokens) for step in (0, 0, 1)]
    assert thinned[0] == thinned[1] != thinned[2]
    kept = sum(map(len, thinned[0][0] + thinned[0][1])) / sum(map(len, whole[0] + whole[1]))
    assert 0.4 < kept < 0.7  # the tokens that frame utterances stay
    assert all(set(ids) <= set(whole[0][-1]) for ids in thinned[0][0])
    assert all(7 in ids for ids in (*thinned[0][0], *thinned[0][1]) if len(ids) < 4)
    with pytest.raises(ValueError, match=r"word_dropout is 1\.0"):
        PairStream(sets, {"a": 1.0}, 8, 0, 1.0)


def test_a_corpus_smaller_than_a_batch_is_refused(encoder):
    sets = {"a": pairs.tokenize(dialogues("a", 2), encoder.tokens)}
    with pytest.raises(ValueError, match="a has 4 pairs, a batch takes 8"):
        PairStream(sets, {"a": 1.0}, 8, 0)


def test_every_training_corpus_has_a_weight():
    from experiments.pretrain import TRAIN_CORPORA

    assert set(pairs.WEIGHTS) == set(TRAIN_CORPORA)
    assert np.all(np.array(list(pairs.WEIGHTS.values())) > 0)
