"""Each critic learns its own pairing, with its own seed."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.ppg import critics, data
from reward_models.persona_training import traits


@pytest.fixture(scope="module")
def parts(corpora_root):
    return data.read_parts(corpora_root, 0.5)


@pytest.fixture(scope="module")
def training(parts):
    return [e for dialogues in parts.training.values() for e in data.exchanges(dialogues, 3)]


def test_a_pairing_has_whom_the_response_is_of_or_to(training):
    assert critics.paired(training, "self") == [(e.persona, e.response) for e in training]
    known = [e for e in training if e.partner_persona]
    assert 0 < len(known) < len(training)
    assert critics.paired(training, "partner") == [(e.partner_persona, e.response) for e in known]


def test_critics_learn_from_each_corpus_by_itself_with_situations_in_the_place_of_personas(parts):
    own, partner = (critics.read(parts, pairing) for pairing in critics.PAIRINGS)
    assert set(own) == {*parts.training, "empatheticdialogues/train"}
    assert set(partner) == set(own) - {"personachat/train"}  # which tells no partner's persona
    evaluated = set().union(*map(data.dialogue_traits, parts.evaluation))
    for found in (own, partner):
        assert all(found.values())
        assert not any(traits(persona) & evaluated for pairs in found.values() for persona, _ in pairs)
    for name, dialogues in parts.training.items():
        assert set(critics.paired(data.exchanges(dialogues, 1), "self")) < set(own[name]) or not parts.one_sided[name]
    told, heard = (set(found["empatheticdialogues/train"]) for found in (own, partner))
    assert ("i found dogs at home.", "well, dogs are what i talk about, 0.") in told
    assert len(told) == 2 * len(heard) and not told & heard


def test_each_critic_learns_its_pairing_with_its_own_seed_and_is_made_once(parts, settings, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(critics, "train", lambda critic, groups, config, progress: seen.append((groups, config.seed)))
    config = settings(tmp_path).critics
    for name in critics.LEARNS:
        made = [critics.make(parts, name, config, tmp_path / name, progress=False) for _ in range(2)]
        groups, seed = seen.pop()
        expected = critics.read(parts, critics.LEARNS[name]).values()
        assert [len(group) for group in groups] == [min(len(pairs), config.responses) for pairs in expected]
        assert all(set(group) <= set(pairs) for group, pairs in zip(groups, expected, strict=True))
        assert seed == config.training.seed + list(critics.LEARNS).index(name)
        assert made[0].fingerprint() == made[1].fingerprint() and not seen


def test_accuracy_knows_of_people(parts, settings, tmp_path, monkeypatch):
    """A critic that is always wrong of one person: the interval is that of few people, not of many pairs."""
    found = data.exchanges(parts.evaluation, 3)
    wrong = data.person_of(found[0].persona, parts.people)

    def rightly(critic, pairs):
        return np.array([data.person_of(persona, parts.people) != wrong for persona in pairs.personas])

    monkeypatch.setattr(critics, "rightly_judged", rightly)
    rows = {row.metric: row for row in critics.accuracies("critic", None, found, parts.people)}
    own = rows["accuracy_self"]
    assert 0 < own.n <= len(found) * 2 and rows["majority_self"].value == 0.5
    assert own.value == pytest.approx(0.75, abs=0.1)  # four people
    assert own.ci95 > 3 * 2 * (own.value * (1 - own.value) / own.n) ** 0.5
